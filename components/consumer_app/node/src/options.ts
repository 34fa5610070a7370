import { parsePort, type Environment } from '@withobsrvr/flowctl';

/** What this run of the consumer is to do. */
export interface Options {
  /** First ledger. */
  start: number;
  /** Last ledger; 0: follow the network for ever. */
  end: number;
  /** host:port of the processor. */
  address: string;
  /** Whether to write one JSON object per event instead of a readable line. */
  json: boolean;
  /** Where /health is served unless HEALTH_PORT says otherwise. */
  healthPort: number;
}

const usage = 'usage: npm start -- <start ledger> [<end ledger>], or START_LEDGER and END_LEDGER';

/** Reads arguments, or the environment where there are none. Throws with one sentence that says what is wrong. */
export function parseOptions(args: string[], env: Environment): Options {
  if (args.length > 2) {
    throw new Error(`${args.length} arguments are too many; ${usage}`);
  }
  const [first, last] = args.length > 0 ? args : [env.START_LEDGER, env.END_LEDGER];
  if (!first) {
    throw new Error(`the start ledger is missing; ${usage}`);
  }
  const start = ledger('start', first, 1);
  const end = last ? ledger('end', last, 0) : 0;
  return {
    start,
    end: end < start ? 0 : end,
    address: env.TTP_SERVICE_ADDRESS || 'localhost:50052',
    json: output(env.OUTPUT || 'text') === 'json',
    healthPort: port(env.PORT || '3000'),
  };
}

function ledger(name: string, text: string, least: number): number {
  const sequence = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(sequence >= least && sequence <= 0xffffffff)) {
    throw new Error(`${name} ledger: "${text}" is no whole number from ${least} to 4294967295`);
  }
  return sequence;
}

function output(text: string): string {
  if (text !== 'text' && text !== 'json') {
    throw new Error(`OUTPUT: "${text}" is neither text nor json`);
  }
  return text;
}

// Go programs spell a port ":3000" as well.
function port(text: string): number {
  try {
    return parsePort(text.replace(/^:/, ''));
  } catch (err) {
    throw new Error(`PORT: ${(err as Error).message}`);
  }
}
