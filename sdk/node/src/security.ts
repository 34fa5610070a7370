import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { checkServerIdentity } from 'node:tls';
import { grpc } from './grpc';
import type { Target } from './settings';

/** What a connection is made with. */
export interface Security {
  credentials: grpc.ChannelCredentials;
  options: grpc.ClientOptions;
  /** Of the contents of the files: equal to another's if no file has changed. */
  digest: string;
}

/**
 * Reads the files the target names, for a connection to it.
 * Throws if one cannot be used, naming the variable and the file.
 */
export function readSecurity(target: Target): Security {
  if (!target.tls) {
    return { credentials: grpc.credentials.createInsecure(), options: {}, digest: '' };
  }
  const ca = readPEM('FLOWCTL_TLS_CA', target.tls.ca);
  const cert = readPEM('FLOWCTL_TLS_CERT', target.tls.cert);
  const key = readPEM('FLOWCTL_TLS_KEY', target.tls.key);
  if (ca) {
    parse('FLOWCTL_TLS_CA', target.tls.ca!, 'certificate', () => new X509Certificate(ca));
  }
  if (cert && key) {
    const ours = parse('FLOWCTL_TLS_CERT', target.tls.cert!, 'certificate', () => new X509Certificate(cert));
    const its = parse('FLOWCTL_TLS_KEY', target.tls.key!, 'private key without a passphrase', () => createPrivateKey(key));
    if (!ours.checkPrivateKey(its)) {
      throw new Error(`FLOWCTL_TLS_KEY: ${target.tls.key} is not the key of ${target.tls.cert} (FLOWCTL_TLS_CERT)`);
    }
  }
  const host = target.endpoint.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return {
    credentials: grpc.credentials.createSsl(ca, key, cert, isIP(host) ? verifyAddress(host) : {}),
    options: isIP(host) ? { 'grpc.ssl_target_name_override': 'localhost' } : {},
    digest: createHash('sha256').update([ca, cert, key].join('\n')).digest('hex'),
  };
}

// grpc-js would name an address in the handshake, where only names may stand,
// and Node would warn of that in the log of every component. So it is given a
// name for the handshake, and the certificate is checked for the address.
function verifyAddress(address: string): grpc.VerifyOptions {
  return { checkServerIdentity: (_name, cert) => checkServerIdentity(address, cert) };
}

// readPEM refuses a file that is being written, unless it happens to end between two blocks.
function readPEM(variable: string, path: string | undefined): Buffer | null {
  if (!path) {
    return null;
  }
  let data: Buffer;
  try {
    data = readFileSync(path);
  } catch (err) {
    throw new Error(`${variable}: ${(err as Error).message}`);
  }
  const [begun, ended] = [/-----BEGIN /g, /-----END [^\n]+-----/g].map((mark) => data.toString('latin1').match(mark)?.length ?? 0);
  if (begun === 0) {
    throw new Error(`${variable}: ${path} is not a PEM file`);
  }
  if (begun !== ended) {
    throw new Error(`${variable}: ${path} is not whole: a PEM block has no end`);
  }
  return data;
}

// parse leaves out what OpenSSL says: it has no words for people, and its input may be a key.
function parse<T>(variable: string, path: string, what: string, parser: () => T): T {
  try {
    return parser();
  } catch {
    throw new Error(`${variable}: ${path} has no ${what} in it`);
  }
}
