import { EventEmitter, once } from 'node:events';
import { grpc } from '@withobsrvr/flowctl';
import { eventService } from '../src/wire';

/** One stream a consumer has opened. */
export type Stream = grpc.ServerWritableStream<{ start_ledger: number; end_ledger: number }, object>;

/** FakeProcessor serves EventService; what it sends is up to `answer`, called once per stream. */
export class FakeProcessor extends EventEmitter {
  /** The requests so far. */
  requests: { start_ledger: number; end_ledger: number }[] = [];
  port = 0;
  private server = new grpc.Server();

  constructor(private readonly answer: (stream: Stream, attempt: number) => void) {
    super();
  }

  async listen(port = 0): Promise<this> {
    this.server.addService(eventService().service, {
      GetTTPEvents: (stream: Stream) => {
        this.requests.push(stream.request);
        this.answer(stream, this.requests.length);
        this.emit('request');
      },
    });
    this.port = await new Promise((resolve, reject) => this.server.bindAsync(
      `127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(),
      (err, bound) => err ? reject(err) : resolve(bound)));
    return this;
  }

  /** Waits until so many streams have been opened in all. */
  async until(times: number): Promise<void> {
    while (this.requests.length < times) {
      await once(this, 'request');
    }
  }

  /** Drops every connection, as if killed. */
  kill(): void {
    this.server.forceShutdown();
  }
}

/** Breaks a stream with a status. */
export function fail(stream: Stream, code: grpc.status, details = 'broken by the test'): void {
  stream.emit('error', { code, details });
}

/** The n-th event of a ledger: every third one a fee, the others transfers; each has an amount of its own. */
export function event(ledger: number, n: number): object {
  const amount = String(ledger * 1000 + n);
  const asset = { native: true };
  const movement = n % 3 === 0 ? { fee: { from: 'GA', asset, amount } } : { transfer: { from: 'GA', to: 'GB', asset, amount } };
  return { meta: { ledger_sequence: ledger, tx_hash: `tx${n}`, transaction_index: n }, ...movement };
}

/** So many events of each of the ledgers. */
export function events(first: number, last: number, each: number): object[] {
  const all = [];
  for (let ledger = first; ledger <= last; ledger++) {
    for (let n = 0; n < each; n++) {
      all.push(event(ledger, n));
    }
  }
  return all;
}

/** Sends events as fast as the reader takes them, until it is gone. */
export async function send(stream: Stream, all: Iterable<object>): Promise<void> {
  let resume = () => {};
  stream.on('drain', () => resume()).on('cancelled', () => resume());
  for (const one of all) {
    if (stream.cancelled) {
      return;
    }
    if (!stream.write(one)) {
      await new Promise<void>((resolve) => { resume = resolve; });
    }
  }
}
