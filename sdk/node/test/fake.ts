import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { grpc, loadService, type Member } from '../src';

const dirs = [join(__dirname, '..', '..', 'proto')];
const service = loadService('flowctl/control_plane.proto', dirs, 'flowctl.ControlPlane').service;
const v1 = loadService('flowctl/v1/control_plane.proto', dirs, 'flowctl.v1.ControlPlaneService').service;

type Call = grpc.ServerUnaryCall<any, any>;
type Reply = grpc.sendUnaryData<any>;

/** FakeControlPlane records what it is told, emits `register`, `heartbeat` and `unregister`, and answers as set. */
export class FakeControlPlane extends EventEmitter {
  registrations: any[] = [];
  /** The authorization of each call, "" if it had none. */
  authorizations: string[] = [];
  heartbeats: any[] = [];
  unregistered: string[] = [];
  /** The service id of the next acks; "": the one that was sent. */
  ackID = '';
  /** How the next heartbeats are answered. */
  heartbeatAnswer: 'ok' | 'again' | 'not found' | 'nothing' = 'ok';
  /** Status codes to refuse the next calls with. */
  refusals: grpc.status[] = [];
  /** What the refusals say. */
  details = 'refused';
  port = 0;
  /** Whoever has to leave before it stops. */
  guests: Member[] = [];
  private server = new grpc.Server();

  constructor(private readonly withV1 = true) {
    super();
  }

  /** Listens on a port of this machine, or on the address if one is given. */
  async listen(port = 0, credentials = grpc.ServerCredentials.createInsecure(), address = `127.0.0.1:${port}`): Promise<this> {
    this.server.addService(service, {
      Register: (call: Call, reply: Reply) => this.register(call, reply),
      Heartbeat: (call: Call, reply: Reply) => this.heartbeat(call, reply),
    });
    if (this.withV1) {
      this.server.addService(v1, { UnregisterComponent: (call: Call, reply: Reply) => {
        this.unregistered.push(call.request.service_id);
        reply(null, {});
        this.emit('unregister');
      } });
    }
    this.port = await new Promise((resolve, reject) => this.server.bindAsync(
      address, credentials, (err, bound) => err ? reject(err) : resolve(bound)));
    return this;
  }

  /** Drops every connection. */
  stop(): void {
    this.server.forceShutdown();
  }

  /** Waits until the event came so often in all. */
  async until(event: 'register' | 'heartbeat' | 'unregister', times: number): Promise<void> {
    const seen = { register: this.registrations, heartbeat: this.heartbeats, unregister: this.unregistered }[event];
    while (seen.length < times) {
      await once(this, event);
    }
  }

  private register(call: Call, reply: Reply): void {
    if (this.refuse(call, reply)) {
      return;
    }
    this.registrations.push(call.request);
    reply(null, { service_id: this.ackID || call.request.service_id });
    this.emit('register');
  }

  // refuse answers a call if the next one is to be refused.
  private refuse(call: Call, reply: Reply): boolean {
    this.authorizations.push(call.metadata.get('authorization').join());
    const refusal = this.refusals.shift();
    if (refusal === undefined) {
      return false;
    }
    reply({ code: refusal, details: this.details });
    this.emit('refused');
    return true;
  }

  private heartbeat(call: Call, reply: Reply): void {
    if (this.refuse(call, reply)) {
      return;
    }
    this.heartbeats.push(call.request);
    this.emit('heartbeat');
    switch (this.heartbeatAnswer) {
      case 'nothing':
        return;
      case 'not found':
        return reply({ code: grpc.status.NOT_FOUND, details: 'who?' });
      case 'again': {
        const headers = new grpc.Metadata();
        headers.set('flowctl-register', 'again');
        call.sendMetadata(headers);
      }
    }
    reply(null, {});
  }
}

/** The environment flowctl gives to a component. */
export function environment(port: number, more: Record<string, string> = {}): Record<string, string> {
  return {
    ENABLE_FLOWCTL: 'true', FLOWCTL_ENDPOINT: `127.0.0.1:${port}`, FLOWCTL_HEARTBEAT_INTERVAL: '20ms',
    FLOWCTL_COMPONENT_ID: 'app', HEALTH_PORT: '0', ...more,
  };
}

/** Takes no lines. */
export const silent = () => {};
