import { parseInterval } from './duration';

/** The environment a component was started with. */
export type Environment = Record<string, string | undefined>;

/** What the environment says about the control plane and this component. */
export interface Settings {
  /** host:port of the control plane; undefined: run without one. */
  endpoint?: string;
  /** Milliseconds between heartbeats. */
  interval: number;
  /** The component's id, "" if the environment names none. */
  id: string;
  /** Where to serve /health; undefined: nowhere. 0: on a free port. */
  healthPort?: number;
  /** The URL to register for /health; undefined: derived from the port. */
  healthEndpoint?: string;
}

/** Reads the variables flowctl gives to components. Throws on a value that makes no sense, naming the variable. */
export function readSettings(env: Environment): Settings {
  const enabled = env.ENABLE_FLOWCTL === 'true' || env.FLOWCTL_ENABLED === 'true';
  return {
    endpoint: enabled ? read('FLOWCTL_ENDPOINT', env, hostPort) ?? 'localhost:8080' : undefined,
    interval: read('FLOWCTL_HEARTBEAT_INTERVAL', env, parseInterval) ?? 10_000,
    id: env.FLOWCTL_COMPONENT_ID || env.COMPONENT_ID || env.FLOWCTL_SERVICE_ID || env.SERVICE_ID || '',
    healthPort: read('HEALTH_PORT', env, parsePort),
    healthEndpoint: env.HEALTH_ENDPOINT || undefined,
  };
}

/** Reads a TCP port, 0 to 65535. Throws on anything else. */
export function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (!(port <= 65535)) {
    throw new Error(`"${text}" is no port from 0 to 65535`);
  }
  return port;
}

// read is undefined for a variable that is unset or empty.
function read<T>(name: string, env: Environment, parse: (text: string) => T): T | undefined {
  const text = env[name]?.trim();
  if (!text) {
    return undefined;
  }
  try {
    return parse(text);
  } catch (err) {
    throw new Error(`${name}: ${(err as Error).message}`);
  }
}

// hostPort accepts the spelling with http:// too; gRPC itself would not.
function hostPort(text: string): string {
  const m = /^(?:http:\/\/)?([^\s/]+:\d+)\/?$/.exec(text);
  if (!m) {
    throw new Error(`"${text}" is no host:port, with or without http:// before it`);
  }
  return m[1]!;
}
