import { join } from 'node:path';
import { channelOptions, grpc, loadService } from './grpc';

/** What a component says of itself when it registers. */
export interface ServiceInfo {
  service_id: string;
  service_type: number;
  input_event_types: string[];
  output_event_types: string[];
  health_endpoint: string;
  max_inflight: number;
  metadata: Record<string, string>;
  component_id: string;
}

interface Ack {
  service_id: string;
}

const includeDirs = [join(__dirname, '..', '..', 'proto')];

// No call may take longer: a frozen control plane must not stop a component.
const callTimeout = 5000;

/** ControlPlane is the connection to the control plane at one endpoint. Close it to let the process end. */
export class ControlPlane {
  private current: grpc.Client;
  private readonly service: grpc.ServiceClientConstructor;
  private readonly v1: grpc.ServiceClientConstructor;

  constructor(private readonly endpoint: string) {
    this.service = loadService('flowctl/control_plane.proto', includeDirs, 'flowctl.ControlPlane');
    this.v1 = loadService('flowctl/v1/control_plane.proto', includeDirs, 'flowctl.v1.ControlPlaneService');
    this.current = this.connect();
  }

  private connect(): grpc.Client {
    return new this.service(this.endpoint, grpc.credentials.createInsecure(), channelOptions);
  }

  /** Registers, waiting up to 5 s for the control plane to come up, and answers with the service id to use from then on. */
  async register(info: ServiceInfo, signal: AbortSignal): Promise<string> {
    const metadata = new grpc.Metadata({ waitForReady: true });
    const { response } = await this.call<Ack>(this.service, 'Register', info, signal, metadata);
    return response.service_id || info.service_id;
  }

  /** Shows that the service lives and replaces its metrics. Answers whether the control plane asks for a registration. */
  async heartbeat(id: string, metrics: Record<string, number>, signal: AbortSignal): Promise<boolean> {
    const now = Date.now();
    const timestamp = { seconds: Math.floor(now / 1000), nanos: (now % 1000) * 1_000_000 };
    try {
      const { headers } = await this.call(this.service, 'Heartbeat', { service_id: id, timestamp, metrics }, signal);
      return headers?.get('flowctl-register')[0] === 'again';
    } catch (err) {
      if ((err as grpc.ServiceError).code === grpc.status.NOT_FOUND) {
        return true;
      }
      if ((err as grpc.ServiceError).code === grpc.status.DEADLINE_EXCEEDED) {
        this.reconnect();
      }
      throw err;
    }
  }

  /** Takes the service out of the registry. Control planes that cannot do that answer UNIMPLEMENTED. */
  async unregister(id: string, signal: AbortSignal): Promise<void> {
    await this.call(this.v1, 'UnregisterComponent', { service_id: id }, signal);
  }

  /** Ends the connection and every call on it. */
  close(): void {
    this.current.close();
  }

  // A peer that vanished without closing the connection looks alive to TCP for
  // many minutes: a new connection finds out at once.
  private reconnect(): void {
    this.current.close();
    this.current = this.connect();
  }

  private call<Response>(
    service: grpc.ServiceClientConstructor, method: string, request: object, signal: AbortSignal,
    metadata = new grpc.Metadata(),
  ): Promise<{ response: Response; headers?: grpc.Metadata }> {
    const rpc = service.service[method]!;
    return new Promise((resolve, reject) => {
      let headers: grpc.Metadata | undefined;
      const options = { deadline: Date.now() + callTimeout };
      const call = this.current.makeUnaryRequest(
        rpc.path, rpc.requestSerialize, rpc.responseDeserialize, request, metadata, options,
        (err: grpc.ServiceError | null, response?: Response) => {
          signal.removeEventListener('abort', cancel);
          err ? reject(err) : resolve({ response: response!, headers });
        },
      );
      const cancel = () => call.cancel();
      call.on('metadata', (received: grpc.Metadata) => { headers = received; });
      signal.aborted ? cancel() : signal.addEventListener('abort', cancel);
    });
  }
}
