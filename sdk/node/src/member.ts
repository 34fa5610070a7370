import { ControlPlane, type ServiceInfo } from './controlplane';
import { grpc } from './grpc';
import { serveHealth, type Health } from './health';
import { readSettings, type Environment, type Settings } from './settings';
import { backoff, settled, sleep } from './wait';

/** Where a component stands in the pipeline, and its number on the wire. */
export const roles = { source: 1, processor: 2, sink: 3 } as const;

/** Where a component stands in the pipeline. */
export type Role = keyof typeof roles;

/** What a component may say of its own health. */
export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy';

/** What a program tells about itself when it joins. */
export interface Component {
  role: Role;
  /** Event types it reads; default none. */
  inputs?: string[];
  /** Event types it writes; default none. */
  outputs?: string[];
  /** Its id where the environment names none; default: the control plane chooses. */
  id?: string;
  /** The health port where HEALTH_PORT is not set; default: no health endpoint. */
  healthPort?: number;
  /** How many events it can have in flight; default 0: it does not say. */
  maxInflight?: number;
  /** More facts to show beside it. */
  metadata?: Record<string, string>;
  /** Kept when the component can do its work. Until then its health is "starting" and it does not register. Default: at once. */
  serving?: Promise<unknown>;
  /** Takes the SDK's few lines about the connection to the control plane; default: standard error. */
  log?: (line: string) => void;
}

// How long a leave may spend, in milliseconds, on a control plane that does not answer.
const leaveTimeout = 1500;

/**
 * Makes this program a member of its pipeline: serves the health endpoint,
 * registers with the control plane in the background (again and again until it
 * succeeds) and sends heartbeats until leave(). Without ENABLE_FLOWCTL=true or
 * FLOWCTL_ENABLED=true only the health endpoint is served.
 *
 * From here on SIGTERM and SIGINT abort member.signal instead of ending the process.
 * Rejects if a variable makes no sense, a file it names cannot be used, or the health port is taken.
 */
export async function join(component: Component, env: Environment = process.env): Promise<Member> {
  const settings = readSettings(env);
  settings.healthPort ??= component.healthPort;
  settings.id ||= component.id ?? '';
  const member = new Member(component, settings);
  await member.open();
  return member;
}

/** Member is this program as a component of a running pipeline. join() makes one. */
export class Member {
  private readonly metrics: Record<string, number> = {};
  private readonly left = new AbortController();
  private readonly stop = new AbortController();
  private controlPlane?: ControlPlane;
  private readonly onSignal = (name: NodeJS.Signals) => this.stop.abort(name);
  private status: HealthStatus | 'starting' | 'stopping';
  private reason = '';
  private serviceID: string;
  // The registration that was begun last; undefined: none has been.
  private registering?: Promise<void>;
  private isRegistered = false;
  // Aborted to end the wait for the next regular heartbeat early.
  private wake = new AbortController();
  private health?: Health;
  private life: Promise<void> = Promise.resolve();
  private leaving?: Promise<void>;

  /** Use join() instead. */
  constructor(private readonly component: Component, private readonly settings: Settings) {
    this.status = component.serving ? 'starting' : 'healthy';
    this.serviceID = settings.id;
  }

  /** Called by join(): reads the files for TLS, binds the health port, then begins to live. */
  async open(): Promise<void> {
    const { target, healthPort } = this.settings;
    this.controlPlane = target && new ControlPlane(target, (line) => this.log(line));
    if (healthPort !== undefined) {
      this.health = await serveHealth(healthPort, () => this.verdict());
    }
    process.on('SIGTERM', this.onSignal).on('SIGINT', this.onSignal);
    this.life = this.live();
  }

  /** The id the control plane knows this component by; "" if it has not chosen one yet. */
  get id(): string {
    return this.serviceID;
  }

  /** Whether the control plane has acknowledged this component. */
  get registered(): boolean {
    return this.isRegistered;
  }

  /** The port /health is served on, undefined if it is not. */
  get healthPort(): number | undefined {
    return this.health?.port;
  }

  /** Aborted on SIGTERM and SIGINT, with the signal's name as the reason: stop working, then leave(). */
  get signal(): AbortSignal {
    return this.stop.signal;
  }

  /** Sets a metric; it travels with the next heartbeat and is shown by /health. Values that are not finite are dropped. */
  report(name: string, value: number): void {
    if (Number.isFinite(value)) {
      this.metrics[name] = value;
    }
  }

  /** Adds to a metric that counts from 0. */
  count(name: string, delta = 1): void {
    this.report(name, (this.metrics[name] ?? 0) + delta);
  }

  /** Says how the component feels; /health shows it from now on, with the reason. */
  setHealth(status: HealthStatus, reason = ''): void {
    this.status = status;
    this.reason = reason;
  }

  /**
   * Sends a heartbeat now, beside the regular ones. Does nothing before the registration, which is a sign of life
   * itself. Rejects if the control plane cannot be reached.
   */
  async beat(): Promise<void> {
    if (this.isRegistered && !this.left.signal.aborted) {
      await this.sendBeat(this.left.signal);
    }
  }

  /**
   * Leaves the pipeline: sends the last metrics, deregisters, stops the heartbeats and the health endpoint. A
   * registration still under way is waited for, unless a signal asked to stop. Takes at most 2 s whatever the control
   * plane does, never rejects, may be called again. Afterwards nothing of the SDK keeps the process alive.
   */
  leave(): Promise<void> {
    this.leaving ??= this.depart();
    return this.leaving;
  }

  // live is the member's one background activity: it ends when left is aborted.
  private async live(): Promise<void> {
    const left = this.left.signal;
    if (this.component.serving && !(await settled(this.component.serving, left))) {
      return;
    }
    if (this.status === 'starting') {
      this.status = 'healthy';
    }
    let failures = 0;
    while (this.controlPlane) {
      if (!this.isRegistered) {
        this.registering = this.register(this.controlPlane);
        await this.registering;
      }
      if (left.aborted) {
        return;
      }
      const wait = failures > 0 ? Math.min(backoff(failures), this.settings.interval) : this.settings.interval;
      this.wake = new AbortController();
      await sleep(wait, this.wake.signal);
      if (this.isRegistered && !left.aborted) {
        failures = await this.sendBeat(left).then(() => 0, () => failures + 1);
      }
      if (failures === 1 && !left.aborted && !this.controlPlane.refuses) {
        this.log(`no answer to the heartbeat of ${this.serviceID} from ${this.settings.target?.endpoint}, trying again`);
      }
    }
  }

  // register tries until the control plane acknowledges or the member leaves.
  private async register(controlPlane: ControlPlane): Promise<void> {
    let told = '';
    for (let failures = 1; !this.left.signal.aborted; failures++) {
      try {
        this.serviceID = await controlPlane.register(this.info(), this.left.signal);
        this.isRegistered = true;
        this.log(`registered as ${this.serviceID} with ${this.settings.target?.endpoint}`);
        return;
      } catch (err) {
        const { code, message } = err as grpc.ServiceError;
        const text = code === grpc.status.DEADLINE_EXCEEDED ? 'no answer' : message;
        if (text !== told && !this.left.signal.aborted && !controlPlane.refuses) {
          this.log(`not registered with ${this.settings.target?.endpoint} yet: ${text}`);
          told = text;
        }
      }
      await sleep(backoff(failures), this.left.signal);
    }
  }

  private async sendBeat(signal: AbortSignal): Promise<void> {
    const forgotten = await this.controlPlane!.heartbeat(this.serviceID, { ...this.metrics }, signal);
    if (forgotten) {
      this.isRegistered = false;
      this.wake.abort();
    }
  }

  private async depart(): Promise<void> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), leaveTimeout);
    // Work can be done before the registration is: whoever waits for it should still hear of it.
    if (this.registering && !this.stop.signal.aborted) {
      await settled(this.registering, limit.signal);
    }
    this.status = 'stopping';
    this.left.abort();
    this.wake.abort();
    await this.life;
    if (this.controlPlane && this.registering && this.serviceID) {
      await this.farewell(this.controlPlane, limit.signal);
    }
    clearTimeout(timer);
    this.controlPlane?.close();
    await this.health?.close();
    // npm forwards a signal that its whole process group got already: once one
    // came, a second must not end the process with another exit code.
    if (!this.stop.signal.aborted) {
      process.off('SIGTERM', this.onSignal).off('SIGINT', this.onSignal);
    }
  }

  // The control plane may be gone or never have known us: that is no concern of a leaving member.
  private async farewell(controlPlane: ControlPlane, limit: AbortSignal): Promise<void> {
    if (this.isRegistered) {
      await this.sendBeat(limit).catch(() => {});
    }
    await controlPlane.unregister(this.serviceID, limit).catch(() => {});
    this.isRegistered = false;
  }

  private info(): ServiceInfo {
    const { role, inputs, outputs, maxInflight, metadata } = this.component;
    const url = this.health ? `http://localhost:${this.health.port}/health` : '';
    const named: Record<string, string> = this.settings.id ? { component_id: this.settings.id } : {};
    return {
      service_id: this.serviceID,
      service_type: roles[role],
      input_event_types: inputs ?? [],
      output_event_types: outputs ?? [],
      health_endpoint: this.settings.healthEndpoint ?? url,
      max_inflight: maxInflight ?? 0,
      metadata: { ...metadata, ...named },
      component_id: this.settings.id,
    };
  }

  private verdict(): object {
    return {
      status: this.status,
      ...(this.reason && { reason: this.reason }),
      component: this.settings.id,
      service_id: this.serviceID,
      registered: this.isRegistered,
      metrics: this.metrics,
    };
  }

  private log(line: string): void {
    (this.component.log ?? ((text: string) => console.error(`flowctl: ${text}`)))(line);
  }
}
