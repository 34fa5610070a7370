import { join } from 'node:path';
import { channelOptions, grpc, loadService } from './grpc';
import { refusal } from './refusal';
import { readSecurity, type Security } from './security';
import type { Target } from './settings';

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
  private security: Security;
  // What has been told: why nobody is let in, and why files cannot be read again. "" if nothing stands.
  private refusal = '';
  private unread = '';
  // Whether a call has failed for want of a connection since the files were read.
  private disconnected = false;

  /** Throws if a file that the target names cannot be used. `log` takes a line for each reason why the control plane lets nobody in. */
  constructor(private readonly target: Target, private readonly log: (line: string) => void) {
    this.service = loadService('flowctl/control_plane.proto', includeDirs, 'flowctl.ControlPlane');
    this.v1 = loadService('flowctl/v1/control_plane.proto', includeDirs, 'flowctl.v1.ControlPlaneService');
    this.security = readSecurity(target);
    this.current = this.connect();
  }

  private connect(): grpc.Client {
    const { credentials, options } = this.security;
    return new this.service(this.target.endpoint, credentials, { ...channelOptions, ...options });
  }

  /** Whether the reason why calls fail has been told to the log. */
  get refuses(): boolean {
    return this.refusal !== '';
  }

  /** Registers, waiting up to 5 s for the control plane to come up, and answers with the service id to use from then on. */
  async register(info: ServiceInfo, signal: AbortSignal): Promise<string> {
    this.renew();
    const metadata = new grpc.Metadata({ waitForReady: true });
    const answer = this.call<Ack>(this.service, 'Register', info, signal, metadata);
    void this.explain(info.service_id, signal).catch(() => {});
    const { response } = await answer;
    return response.service_id || info.service_id;
  }

  // grpc-js does not say why it cannot connect to a call that waits for it. A call that does not wait hears of it, and
  // goes nowhere.
  private async explain(id: string, signal: AbortSignal): Promise<void> {
    const channel = this.current.getChannel();
    const limit = Date.now() + callTimeout;
    let state = channel.getConnectivityState(true);
    while (state === grpc.connectivityState.IDLE || state === grpc.connectivityState.CONNECTING) {
      const before = state;
      await new Promise<void>((resolve, reject) =>
        channel.watchConnectivityState(before, limit, (err) => err ? reject(err) : resolve()));
      state = channel.getConnectivityState(false);
    }
    if (state === grpc.connectivityState.TRANSIENT_FAILURE) {
      await this.call(this.service, 'GetServiceStatus', { service_id: id }, signal);
    }
  }

  /** Shows that the service lives and replaces its metrics. Answers whether the control plane asks for a registration. */
  async heartbeat(id: string, metrics: Record<string, number>, signal: AbortSignal): Promise<boolean> {
    this.renew();
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

  // failed tells why the control plane lets nobody in, once for each reason.
  private failed(err: grpc.ServiceError): void {
    const found = refusal(err, this.target);
    if (found && found.cause !== this.refusal && (found.sure || !this.refusal)) {
      this.refusal = found.cause;
      const words = err.code === grpc.status.UNAVAILABLE ? '' : ` (it says: ${err.details})`;
      this.log(`no access to the control plane ${this.target.endpoint}: ${found.cause}${words}`);
    }
    const silent = err.code === grpc.status.DEADLINE_EXCEEDED || err.code === grpc.status.CANCELLED;
    if (!found && !silent) {
      this.refusal = '';
    }
    this.disconnected ||= err.code === grpc.status.UNAVAILABLE || err.code === grpc.status.DEADLINE_EXCEEDED;
  }

  // renew takes up files that were renewed, once a call has failed. grpc-js reads no files: with other files there has
  // to be another connection. Files that cannot be used, because they are being written, change nothing.
  private renew(): void {
    if (!this.target.tls || !this.disconnected) {
      return;
    }
    this.disconnected = false;
    try {
      const fresh = readSecurity(this.target);
      this.unread = '';
      if (fresh.digest !== this.security.digest) {
        this.security = fresh;
        this.reconnect();
      }
    } catch (err) {
      const { message } = err as Error;
      if (message !== this.unread) {
        this.unread = message;
        this.log(`TLS files cannot be used, going on with what they were: ${message}`);
      }
    }
  }

  private call<Response>(
    service: grpc.ServiceClientConstructor, method: string, request: object, signal: AbortSignal,
    metadata = new grpc.Metadata(),
  ): Promise<{ response: Response; headers?: grpc.Metadata }> {
    const rpc = service.service[method]!;
    if (this.target.token) {
      metadata.set('authorization', `Bearer ${this.target.token()}`);
    }
    return new Promise((resolve, reject) => {
      let headers: grpc.Metadata | undefined;
      const options = { deadline: Date.now() + callTimeout };
      const call = this.current.makeUnaryRequest(
        rpc.path, rpc.requestSerialize, rpc.responseDeserialize, request, metadata, options,
        (err: grpc.ServiceError | null, response?: Response) => {
          signal.removeEventListener('abort', cancel);
          if (err) {
            this.conceal(err);
            this.failed(err);
            reject(err);
          } else {
            this.refusal = '';
            resolve({ response: response!, headers });
          }
        },
      );
      const cancel = () => call.cancel();
      call.on('metadata', (received: grpc.Metadata) => { headers = received; });
      signal.aborted ? cancel() : signal.addEventListener('abort', cancel);
    });
  }

  // A control plane that repeats the token in its answer shall not bring it into a log.
  private conceal(err: grpc.ServiceError): void {
    const token = this.target.token?.();
    if (token && err.details.includes(token)) {
      const hidden = (text: string) => text.replaceAll(token, '<FLOWCTL_TOKEN>');
      err.details = hidden(err.details);
      err.message = hidden(err.message);
      err.stack = err.stack && hidden(err.stack);
    }
  }
}
