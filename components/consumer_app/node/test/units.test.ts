import { deepEqual, equal, ok, rejects, throws } from 'node:assert/strict';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { jsonLine, textLine } from '../src/format';
import { parseOptions } from '../src/options';
import { Output } from '../src/output';
import { Progress } from '../src/progress';
import { Tally } from '../src/tally';
import type { TokenTransferEvent } from '../src/wire';

const defaults = { address: 'localhost:50052', json: false, healthPort: 3000 };

test('arguments win over the environment', () => {
  const env = { START_LEDGER: '7', END_LEDGER: '9' };
  deepEqual(parseOptions([], env), { ...defaults, start: 7, end: 9 });
  deepEqual(parseOptions(['1', '2'], env), { ...defaults, start: 1, end: 2 });
  deepEqual(parseOptions(['1'], env), { ...defaults, start: 1, end: 0 });
});

test('an end of 0, or before the start, means live', () => {
  equal(parseOptions(['5', '0'], {}).end, 0);
  equal(parseOptions(['5', '4'], {}).end, 0);
  equal(parseOptions(['5', '5'], {}).end, 5);
  equal(parseOptions([], { START_LEDGER: '5', END_LEDGER: '' }).end, 0);
});

test('the rest of the environment', () => {
  deepEqual(parseOptions(['1'], { TTP_SERVICE_ADDRESS: 'ttp:1', OUTPUT: 'json', PORT: ':3001' }),
    { address: 'ttp:1', json: true, healthPort: 3001, start: 1, end: 0 });
});

test('wrong arguments are told in one sentence', () => {
  const cases: [string[], Record<string, string>, RegExp][] = [
    [[], {}, /^Error: the start ledger is missing; usage: /],
    [['1', '2', '3'], {}, /^Error: 3 arguments are too many; usage: /],
    [['0'], {}, /^Error: start ledger: "0" is no whole number from 1 to 4294967295$/],
    [['ten'], {}, /^Error: start ledger: "ten" /],
    [['1', '-5'], {}, /^Error: end ledger: "-5" is no whole number from 0 /],
    [['1.5'], {}, /^Error: start ledger: /],
    [['4294967296'], {}, /^Error: start ledger: /],
    [[''], {}, /^Error: the start ledger is missing/],
    [['1'], { OUTPUT: 'xml' }, /^Error: OUTPUT: "xml" is neither text nor json$/],
    [['1'], { PORT: 'http' }, /^Error: PORT: "http" is no port /],
  ];
  for (const [args, env, message] of cases) {
    throws(() => parseOptions(args, env), message, args.join(' '));
  }
});

const meta = {
  ledger_sequence: 9, closed_at: { seconds: '1700000000', nanos: 0 }, tx_hash: 'ab', transaction_index: 2,
  operation_index: 1, contract_address: 'CX', to_muxed_info: null,
};
const issued = { asset_type: 'issued_asset', issued_asset: { asset_code: 'USDC', issuer: 'GI' } } as const;
const native = { asset_type: 'native' } as const;

test('lines for a reader', () => {
  const cases: [TokenTransferEvent, string][] = [
    [{ meta, event: 'transfer', transfer: { from: 'GA', to: 'GB', asset: native, amount: '12345678901' } },
      '9 transfer GA → GB 1234.5678901 XLM'],
    [{ meta, event: 'fee', fee: { from: 'GA', asset: native, amount: '-100' } }, '9 fee      GA → - -0.0000100 XLM'],
    [{ meta, event: 'mint', mint: { to: 'GB', asset: issued, amount: '9223372036854775807' } },
      '9 mint     - → GB 922337203685.4775807 USDC:GI'],
    [{ meta, event: 'burn', burn: { from: 'GA', asset: null, amount: '340282366920938463463374607431768211455' } },
      '9 burn     GA → - 340282366920938463463374607431768211455 CX'],
    [{ meta }, '9 unknown  - → - 0 CX'],
    [{ meta: null, event: 'clawback', clawback: { from: 'GA', asset: native, amount: 'odd' } }, '0 clawback GA → - odd XLM'],
  ];
  for (const [event, line] of cases) {
    equal(textLine(event), line);
  }
});

test('JSON lines always have the same keys', () => {
  const transfer = { from: 'GA', to: 'GB', asset: issued, amount: '5' };
  equal(jsonLine({ meta: { ...meta, to_muxed_info: { content: 'hash', hash: Buffer.from([1, 255]) } }, event: 'transfer', transfer }),
    '{"ledger":9,"tx":"ab","type":"transfer","from":"GA","to":"GB","amount":"5","asset":"USDC:GI","contract":"CX",' +
    '"tx_index":2,"op_index":1,"closed_at":"2023-11-14T22:13:20.000Z","to_muxed":{"hash":"01ff"}}');
  const bare = JSON.parse(jsonLine({ meta: null }));
  deepEqual(bare, {
    ledger: 0, tx: '', type: 'unknown', from: null, to: null, amount: '0', asset: null, contract: null,
    tx_index: 0, op_index: null, closed_at: null, to_muxed: null,
  });
});

test('the summary names the kinds in order', () => {
  const tally = new Tally();
  equal(tally.summary(5, 5), 'ledger 5: 0 events');
  tally.add('transfer');
  equal(tally.summary(5, 5), 'ledger 5: 1 event = 1 transfer');
  tally.add('fee');
  tally.add('transfer');
  equal(tally.summary(1, 10), 'ledgers 1-10: 3 events = 1 fee + 2 transfer');
});

test('a reopened stream repeats nothing and loses nothing', () => {
  const progress = new Progress(10);
  deepEqual([10, 10, 12, 12].map((ledger) => progress.take(ledger)), [true, true, true, true]);
  equal(progress.current, 12);
  progress.reopen();
  deepEqual([12].map((ledger) => progress.take(ledger)), [false]);
  progress.reopen();
  deepEqual([12, 12, 12, 13].map((ledger) => progress.take(ledger)), [false, false, true, true]);
  equal(progress.current, 13);
  equal(progress.total, 6);
});

test('ledgers before the one that was asked for are dropped', () => {
  const progress = new Progress(10);
  deepEqual([9, 10, 9].map((ledger) => progress.take(ledger)), [false, true, false]);
});

test('output batches lines, keeps their order and tells when to wait', async () => {
  const batches: string[] = [];
  const slow = new Writable({
    decodeStrings: false,
    write(chunk, _encoding, done) { batches.push(chunk); setImmediate(done); },
  });
  const output = new Output(slow);
  let waits = 0;
  for (let i = 0; i < 20_000; i++) {
    const room = output.line(`line ${i}`);
    if (room) {
      waits++;
      await room;
    }
  }
  await output.flush();
  equal(batches.join(''), Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(''));
  ok(waits > 1 && batches.length < 20, `${waits} waits, ${batches.length} batches`);
  ok(batches.every((batch) => batch.length < 66_000));
});

test('a reader that has gone is an error', async () => {
  const gone = new Writable({ write(_chunk, _encoding, done) { done(new Error('EPIPE')); } });
  const output = new Output(gone);
  equal(output.line('one'), undefined);
  await rejects(output.flush(), /^Error: write events: EPIPE$/);
  throws(() => output.line('two'), /EPIPE/);
});
