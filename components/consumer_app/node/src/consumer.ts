import type { Member } from '@withobsrvr/flowctl';
import { follow } from './follow';
import { jsonLine, kindOf, textLine } from './format';
import type { Options } from './options';
import type { Output } from './output';
import { Tally } from './tally';
import type { EventClient } from './wire';

/** What the consumer works with. */
export interface Parts {
  options: Options;
  member: Member;
  client: EventClient;
  /** Takes the events, and the summary unless it goes elsewhere. */
  output: Output;
  /** Takes what is not data: state changes, and the summary beside JSON lines. */
  say: (line: string) => void;
  /** Called each time the processor has been reached. */
  connected: () => void;
}

/**
 * Writes every event of the range once, then the summary. Resolves when the
 * range is complete or the member was told to stop. Rejects if the output is
 * broken or the processor refuses the request.
 */
export async function consume({ options, member, client, output, say, connected }: Parts): Promise<void> {
  const { start, end } = options;
  const format = options.json ? jsonLine : textLine;
  const tally = new Tally();
  const stopped = new Promise<void>((resolve) => member.signal.addEventListener('abort', () => resolve()));
  let last = 0;

  const complete = await follow(client, start, end, {
    event(event, ledger) {
      tally.add(kindOf(event));
      member.report('events', tally.events);
      if (ledger > last) {
        last = ledger;
        member.count('ledgers');
        member.report('last_ledger', ledger);
      }
      // A reader that has stopped reading must not keep a stop waiting.
      const room = output.line(format(event));
      return room && Promise.race([room, stopped]);
    },
    connected() {
      member.setHealth('healthy');
      connected();
    },
    broken(reason, ledger) {
      member.setHealth('degraded', `no stream from ${options.address}: ${reason}`);
      say(`the stream from ${options.address} broke at ledger ${ledger}: ${reason}; connecting again`);
    },
  }, member.signal);

  if (!complete) {
    say(`stopped by ${member.signal.reason} after ${tally.events} events, last ledger ${last}`);
  } else if (options.json) {
    say(tally.summary(start, end));
  } else {
    await Promise.race([output.line(tally.summary(start, end)), stopped]);
  }
}
