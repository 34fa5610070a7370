import { backoff, grpc, sleep } from '@withobsrvr/flowctl';
import { Progress } from './progress';
import type { EventClient, TokenTransferEvent } from './wire';

/** What follow() tells its caller. */
export interface Follower {
  /** Takes an event; each comes once, in order. The next one waits for the promise, if there is one. */
  event(event: TokenTransferEvent, ledger: number): Promise<void> | undefined;
  /** The processor has been reached. */
  connected(): void;
  /** The stream broke and is opened again, from this ledger. */
  broken(reason: string, ledger: number): void;
}

// Answers that stay the same however often one asks.
const hopeless = new Set([
  grpc.status.INVALID_ARGUMENT, grpc.status.OUT_OF_RANGE, grpc.status.FAILED_PRECONDITION, grpc.status.DATA_LOSS,
  grpc.status.UNIMPLEMENTED, grpc.status.PERMISSION_DENIED, grpc.status.UNAUTHENTICATED,
]);

/**
 * Hands over every event of the ledgers from start to end once, in order,
 * whatever happens to the processor meanwhile; with end 0 it follows the
 * network until the signal is aborted. Resolves with true when the range is
 * complete, with false when it was aborted. Rejects if the follower does, or
 * if the processor refuses the request for good.
 */
export async function follow(
  client: EventClient, start: number, end: number, follower: Follower, signal: AbortSignal,
): Promise<boolean> {
  const progress = new Progress(start);
  const close = () => client.close();
  signal.addEventListener('abort', close);
  try {
    for (let failures = 1; !signal.aborted; failures++) {
      const before = progress.total;
      const reason = await stream(client, end, progress, follower, signal);
      if (reason === undefined) {
        return true;
      }
      if (signal.aborted) {
        break;
      }
      follower.broken(reason, progress.current);
      if (progress.total > before) {
        failures = 1;
      }
      await sleep(backoff(failures), signal);
    }
    return false;
  } finally {
    signal.removeEventListener('abort', close);
    client.close();
  }
}

// stream reads one stream to its end. The result says why it broke; undefined: the range is complete.
async function stream(
  client: EventClient, end: number, progress: Progress, follower: Follower, signal: AbortSignal,
): Promise<string | undefined> {
  if (!(await client.connected(signal))) {
    return 'aborted';
  }
  follower.connected();
  progress.reopen();
  const call = client.events(progress.current, end);
  const ended = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve));
  const cancel = () => call.cancel();
  signal.aborted ? cancel() : signal.addEventListener('abort', cancel);
  try {
    for await (const event of messages(call)) {
      const ledger = event.meta?.ledger_sequence ?? 0;
      if (end > 0 && ledger > end) {
        return undefined;
      }
      if (progress.take(ledger)) {
        await follower.event(event, ledger);
      }
    }
  } finally {
    signal.removeEventListener('abort', cancel);
    cancel();
  }
  return verdict(await ended, client.address, end);
}

// messages ends where the stream ends or breaks: the call's status tells which.
async function* messages(call: grpc.ClientReadableStream<TokenTransferEvent>): AsyncGenerator<TokenTransferEvent> {
  try {
    yield* call;
  } catch {
    // See above; what was received before the break has been handed on.
  }
}

function verdict(status: grpc.StatusObject, address: string, end: number): string | undefined {
  if (hopeless.has(status.code)) {
    throw new Error(`the processor at ${address} refuses: ${status.details} (${grpc.status[status.code]})`);
  }
  if (status.code === grpc.status.OK) {
    return end > 0 ? undefined : 'the processor ended the stream';
  }
  return `${status.details} (${grpc.status[status.code]})`;
}
