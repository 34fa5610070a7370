import { join } from '@withobsrvr/flowctl';
import { consume } from './consumer';
import { parseOptions, type Options } from './options';
import { Output } from './output';
import { EventClient } from './wire';

// How long a stop waits for a reader of the output that has stopped reading.
const flushTimeout = 500;

// Exit codes: 0 the range is complete or a signal asked to stop, 1 it cannot
// go on, 2 it was called wrongly.
async function main(): Promise<number> {
  let options: Options;
  try {
    options = parseOptions(process.argv.slice(2), process.env);
  } catch (err) {
    say((err as Error).message);
    return 2;
  }
  try {
    await run(options);
    return 0;
  } catch (err) {
    say((err as Error).message);
    return 1;
  }
}

async function run(options: Options): Promise<void> {
  let connected = () => {};
  const serving = new Promise<void>((resolve) => { connected = resolve; });
  const member = await join({ role: 'sink', inputs: ['token_transfer.TokenTransferEvent'], healthPort: options.healthPort, serving });
  const output = new Output(process.stdout);
  try {
    await consume({ options, member, client: new EventClient(options.address), output, say, connected });
    await flush(output, member.signal);
  } finally {
    await member.leave();
  }
}

// flush waits for a slow reader as long as it takes, unless the consumer was told to stop.
async function flush(output: Output, signal: AbortSignal): Promise<void> {
  const stopped = new Promise<void>((resolve) => {
    const limit = () => setTimeout(resolve, flushTimeout);
    signal.aborted ? limit() : signal.addEventListener('abort', limit);
  });
  await Promise.race([output.flush(), stopped]);
}

function say(line: string): void {
  console.error(`consumer: ${line}`);
}

// Output has been flushed: what may still be open is of no use to anyone.
void main().then((code) => process.exit(code));
