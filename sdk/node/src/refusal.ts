import { grpc } from './grpc';
import type { Target, TLSFiles } from './settings';

/** Why the control plane lets nobody in. */
export interface Refusal {
  /** A sentence about the control plane. The same reason has the same sentence. */
  cause: string;
  /** False where it has only hung up: it may have said why another time. */
  sure: boolean;
}

/** Says why a call has failed, or undefined if that is no refusal: nobody may be there. */
export function refusal(err: grpc.ServiceError, target: Target): Refusal | undefined {
  switch (err.code) {
    case grpc.status.UNAUTHENTICATED:
      return sure(target.token ? 'it does not accept the token of FLOWCTL_TOKEN' : 'it asks for a token: set FLOWCTL_TOKEN');
    case grpc.status.PERMISSION_DENIED:
      return sure('it does not permit this component to join');
    case grpc.status.UNAVAILABLE: {
      // What ended the last connection is in the error as text alone, some of it with the time.
      const text = /Last error: (.*)\. Resolution note/s.exec(err.details)?.[1]?.replace(/\s*\(\d{4}-[^)]*Z\)/, '').trim();
      return text === undefined || text.startsWith('Error: connect ') ? undefined : obstacle(text, target);
    }
    default:
      return undefined;
  }
}

// The texts are those of Node and OpenSSL; a test for each case holds them to it.
function obstacle(text: string, { tls }: Target): Refusal | undefined {
  if (/Failed to connect|socket disconnected|socket hang up|ECONNRESET|EPIPE|[Cc]onnection closed|Socket closed/.test(text)) {
    return { sure: false, cause: `it closes connections before it says anything: ${tls
      ? 'it may not accept the client certificate, or have none of its own'
      : 'if it speaks TLS, write https:// in FLOWCTL_ENDPOINT or set FLOWCTL_TLS_CA'}` };
  }
  if (!tls) {
    return /Protocol error/.test(text)
      ? sure('it does not speak HTTP/2 here: if it speaks TLS, write https:// in FLOWCTL_ENDPOINT or set FLOWCTL_TLS_CA') : undefined;
  }
  const alert = /alert ([a-z ]+):/.exec(text)?.[1];
  if (alert) {
    return sure(alertCause(alert, tls));
  }
  if (/wrong version number|packet length too long|unknown protocol/.test(text)) {
    return sure('it speaks no TLS: have it serve TLS, or ask for none (no https:// in FLOWCTL_ENDPOINT, no FLOWCTL_TLS_ variable)');
  }
  if (/certificate has expired|certificate is not yet valid/.test(text)) {
    return sure('its certificate has expired or is not valid yet: renew it, or set the clock of this machine');
  }
  const name = /altnames: (.*)/s.exec(text)?.[1];
  if (name !== undefined) {
    return sure(`its certificate is not for the name in FLOWCTL_ENDPOINT: ${name}`);
  }
  if (/unable to verify|unable to get|self.signed/.test(text)) {
    return sure(tls.ca
      ? `its certificate is not signed by a CA of ${tls.ca}: FLOWCTL_TLS_CA must name the file of its CA`
      : 'its certificate is not signed by a CA that Node knows: name the file of its CA in FLOWCTL_TLS_CA');
  }
  return sure(`the TLS handshake fails: ${text}`);
}

function alertCause(alert: string, tls: TLSFiles): string {
  if (tls.cert && /certificate|unknown ca|handshake failure/.test(alert)) {
    return `it does not accept the certificate of ${tls.cert} (FLOWCTL_TLS_CERT): ${alert}`;
  }
  if (alert === 'certificate required') {
    return 'it asks for a client certificate: set FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY';
  }
  return `it ends the TLS handshake${tls.cert ? '' : ', perhaps for want of a client certificate (FLOWCTL_TLS_CERT)'}: ${alert}`;
}

function sure(cause: string): Refusal {
  return { cause, sure: true };
}
