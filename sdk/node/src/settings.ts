import { parseInterval } from './duration';

/** The environment a component was started with. */
export type Environment = Record<string, string | undefined>;

/** What the environment says about the control plane and this component. */
export interface Settings {
  /** The control plane; undefined: run without one. */
  target?: Target;
  /** Milliseconds between heartbeats. */
  interval: number;
  /** The component's id, "" if the environment names none. */
  id: string;
  /** Where to serve /health; undefined: nowhere. 0: on a free port. */
  healthPort?: number;
  /** The URL to register for /health; undefined: derived from the port. */
  healthEndpoint?: string;
}

/** Where the control plane is, and how to speak to it. */
export interface Target {
  /** host:port or unix:///path. */
  endpoint: string;
  /** Speak TLS, with these files; undefined: in plaintext. */
  tls?: TLSFiles;
  /** Answers with the token that goes with every call; undefined: none does. A function, for whoever prints a target. */
  token?: () => string;
}

/** Paths of PEM files. */
export interface TLSFiles {
  /** The CAs that the control plane's certificate is checked against; undefined: those that Node knows. */
  ca?: string;
  /** The component's own certificate and its key: both or neither. */
  cert?: string;
  key?: string;
}

/** Reads the variables flowctl gives to components. Throws on a value that makes no sense, naming the variable. */
export function readSettings(env: Environment): Settings {
  const enabled = env.ENABLE_FLOWCTL === 'true' || env.FLOWCTL_ENABLED === 'true';
  return {
    target: enabled ? readTarget(env) : undefined,
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

function readTarget(env: Environment): Target {
  const { scheme, endpoint } = read('FLOWCTL_ENDPOINT', env, parseEndpoint) ?? { endpoint: 'localhost:8080' };
  const tls: TLSFiles = {
    ca: read('FLOWCTL_TLS_CA', env, String),
    cert: read('FLOWCTL_TLS_CERT', env, String),
    key: read('FLOWCTL_TLS_KEY', env, String),
  };
  const token = read('FLOWCTL_TOKEN', env, parseToken);
  if (tls.cert && !tls.key) {
    throw new Error(`FLOWCTL_TLS_CERT: ${tls.cert} has no key: set FLOWCTL_TLS_KEY too`);
  }
  if (tls.key && !tls.cert) {
    throw new Error(`FLOWCTL_TLS_KEY: ${tls.key} has no certificate: set FLOWCTL_TLS_CERT too`);
  }
  const file = tls.ca ? `FLOWCTL_TLS_CA (${tls.ca})` : tls.cert && `FLOWCTL_TLS_CERT (${tls.cert})`;
  if (scheme === 'http' && file) {
    throw new Error(`FLOWCTL_ENDPOINT: http://${endpoint} means no TLS, and ${file} means TLS: write https:// or unset it`);
  }
  return { endpoint, tls: scheme === 'https' || file ? tls : undefined, token: token ? () => token : undefined };
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

// parseEndpoint takes the scheme off, which gRPC itself would not.
function parseEndpoint(text: string): { scheme?: string; endpoint: string } {
  if (/^unix:\/\/\/./.test(text)) {
    return { scheme: 'unix', endpoint: text };
  }
  if (text.startsWith('unix:/')) {
    throw new Error(`"${text}" is not unix:///path, with an absolute path`);
  }
  const m = /^(?:(https?):\/\/)?([^\s/]+:\d+)\/?$/.exec(text);
  if (!m) {
    throw new Error(`"${text}" is no host:port, with or without http:// or https:// before it`);
  }
  return { scheme: m[1], endpoint: m[2]! };
}

// parseToken does not show what it refuses: that is a secret all the same.
function parseToken(text: string): string {
  if (!/^[!-~]+$/.test(text)) {
    throw new Error('it has a blank, a line break or another character that no token has');
  }
  return text;
}
