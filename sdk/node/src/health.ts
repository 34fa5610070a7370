import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * Serves GET /health on the port, of all interfaces, with what `verdict`
 * answers at that moment, as JSON. The status code is 200 whatever the verdict
 * is: whoever asks reads the field `status`. Rejects if the port cannot be had.
 */
export async function serveHealth(port: number, verdict: () => object): Promise<Health> {
  const server = createServer((request, response) => {
    const known = request.url?.split('?')[0] === '/health';
    response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(known ? verdict() : { error: 'only /health is served here' }) + '\n');
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (err: NodeJS.ErrnoException) =>
      reject(new Error(`serve health on port ${port}: ${err.code === 'EADDRINUSE' ? 'the port is taken' : err.message}`)));
    server.listen(port, resolve);
  });
  return new Health(server);
}

/** Health is a health endpoint that is being served. */
export class Health {
  constructor(private readonly server: Server) {}

  /** The port it is served on. */
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Stops serving and drops open connections. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}
