import { deepEqual, equal, rejects } from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { grpc } from '@withobsrvr/flowctl';
import { follow } from '../src/follow';
import { EventClient } from '../src/wire';
import { event, events, fail, FakeProcessor, send, type Stream } from './fake';

interface Seen {
  amounts: string[];
  breaks: number[];
  result: Promise<boolean>;
  stop: AbortController;
}

async function processor(t: TestContext, answer: (stream: Stream, attempt: number) => void): Promise<FakeProcessor> {
  const fake = await new FakeProcessor(answer).listen();
  t.after(() => fake.kill());
  return fake;
}

function start(t: TestContext, port: number, first: number, last: number): Seen {
  const stop = new AbortController();
  const seen: Seen = { amounts: [], breaks: [], stop, result: Promise.resolve(false) };
  seen.result = follow(new EventClient(`127.0.0.1:${port}`), first, last, {
    event(one) { seen.amounts.push(one[one.event!]!.amount); return undefined; },
    connected() {},
    broken(_reason, ledger) { seen.breaks.push(ledger); },
  }, stop.signal);
  t.after(() => stop.abort());
  return seen;
}

const amounts = (all: object[]) => all.map((one: any) => (one.fee ?? one.transfer).amount);

test('a whole range arrives in order and ends', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(5, 7, 10)).then(() => stream.end()));
  const seen = start(t, fake.port, 5, 7);
  equal(await seen.result, true);
  deepEqual(seen.amounts, amounts(events(5, 7, 10)));
  deepEqual(fake.requests, [{ start_ledger: 5, end_ledger: 7 }]);
});

test('a range without events ends', async (t) => {
  const fake = await processor(t, (stream) => stream.end());
  equal(await start(t, fake.port, 5, 7).result, true);
});

test('a stream broken at any place is taken up there', async (t) => {
  const all = events(5, 8, 7);
  for (let cut = 0; cut <= all.length; cut += 3) {
    const fake = await processor(t, async (stream, attempt) => {
      const from = all.filter((one: any) => one.meta.ledger_sequence >= stream.request.start_ledger);
      if (attempt === 1) {
        await send(stream, from.slice(0, cut));
        fail(stream, grpc.status.UNAVAILABLE);
      } else {
        await send(stream, from);
        stream.end();
      }
    });
    const seen = start(t, fake.port, 5, 8);
    equal(await seen.result, true);
    deepEqual(seen.amounts, amounts(all), `cut after ${cut}`);
    equal(fake.requests[1]!.start_ledger, cut === 0 ? 5 : 5 + Math.floor((cut - 1) / 7));
    deepEqual(seen.breaks, [fake.requests[1]!.start_ledger]);
  }
});

test('broken three times inside one ledger, the second time earlier than the first', async (t) => {
  const cuts = [5, 2, 6];
  const fake = await processor(t, async (stream, attempt) => {
    await send(stream, events(5, 5, 9).slice(0, cuts[attempt - 1]));
    attempt <= cuts.length ? fail(stream, grpc.status.INTERNAL) : stream.end();
  });
  const seen = start(t, fake.port, 5, 5);
  equal(await seen.result, true);
  deepEqual(seen.amounts, amounts(events(5, 5, 9)));
});

test('a processor that is killed and comes back on the same port', async (t) => {
  const first = await processor(t, (stream) => send(stream, events(5, 6, 4).slice(0, 6)));
  const seen = start(t, first.port, 5, 7);
  while (seen.amounts.length < 6) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  first.kill();
  const second = new FakeProcessor((stream) => send(stream, events(6, 7, 4)).then(() => stream.end()));
  await second.listen(first.port);
  t.after(() => second.kill());
  equal(await seen.result, true);
  deepEqual(seen.amounts, amounts(events(5, 7, 4)));
  deepEqual(second.requests, [{ start_ledger: 6, end_ledger: 7 }]);
});

test('a processor that comes late is found', async (t) => {
  const fake = await processor(t, () => {});
  fake.kill();
  const seen = start(t, fake.port, 5, 5);
  await new Promise((resolve) => setTimeout(resolve, 250)); // Some attempts fail first.
  const late = await new FakeProcessor((stream) => send(stream, events(5, 5, 3)).then(() => stream.end())).listen(fake.port);
  t.after(() => late.kill());
  equal(await seen.result, true);
  equal(seen.amounts.length, 3);
});

test('a live stream that ends is opened again, where it ended', async (t) => {
  const fake = await processor(t, (stream, attempt) => {
    void send(stream, [event(attempt, 0), event(attempt + 1, 0)]).then(() => { attempt < 3 && stream.end(); });
  });
  const seen = start(t, fake.port, 1, 0);
  await fake.until(3);
  while (seen.amounts.length < 4) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  deepEqual(fake.requests.map((request) => request.start_ledger), [1, 2, 3]);
  deepEqual(seen.amounts, ['1000', '2000', '3000', '4000']);
  seen.stop.abort();
  equal(await seen.result, false);
});

test('a processor that goes on after the end is left', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(5, 100, 2)));
  const seen = start(t, fake.port, 5, 6);
  equal(await seen.result, true);
  deepEqual(seen.amounts, amounts(events(5, 6, 2)));
});

test('a refusal for good ends it', async (t) => {
  const fake = await processor(t, (stream) => fail(stream, grpc.status.INVALID_ARGUMENT, 'no such ledger'));
  await rejects(start(t, fake.port, 5, 6).result,
    new RegExp(`^Error: the processor at 127.0.0.1:${fake.port} refuses: no such ledger \\(INVALID_ARGUMENT\\)$`));
});

test('an abort ends the wait for a processor that is not there', async (t) => {
  const fake = await processor(t, () => {});
  fake.kill();
  const seen = start(t, fake.port, 5, 6);
  seen.stop.abort();
  equal(await seen.result, false);
  deepEqual(seen.breaks, []);
});

test('a follower that fails ends it with its error', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(5, 6, 2)));
  const failing = follow(new EventClient(`127.0.0.1:${fake.port}`), 5, 6, {
    event() { throw new Error('disk full'); }, connected() {}, broken() {},
  }, new AbortController().signal);
  await rejects(failing, /^Error: disk full$/);
});
