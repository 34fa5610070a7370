import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test, type TestContext } from 'node:test';
import { environment, FakeControlPlane } from '@withobsrvr/flowctl/dist/test/fake';
import { events, fail, FakeProcessor, send, type Stream } from './fake';

const root = join(__dirname, '..', '..');

interface Run {
  child: ChildProcess;
  exit: Promise<[number | null, string | null]>;
}

function run(t: TestContext, command: string[], env: Record<string, string>, stdin: 'pipe' | 'ignore' = 'ignore'): Run {
  const child = spawn(command[0]!, command.slice(1), {
    cwd: root, env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env }, stdio: [stdin, 'pipe', 'pipe'], detached: true,
  });
  t.after(() => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // The whole group has ended.
    }
  });
  return { child, exit: once(child, 'exit') as Run['exit'] };
}

const main = [process.execPath, join(root, 'dist/src/main.js')];
const npm = ['npm', 'start', '--silent', '--'];

async function processor(t: TestContext, answer: (stream: Stream, attempt: number) => void): Promise<FakeProcessor> {
  const fake = await new FakeProcessor(answer).listen();
  t.after(() => fake.kill());
  return fake;
}

async function controlPlane(t: TestContext): Promise<FakeControlPlane> {
  const fake = await new FakeControlPlane().listen();
  t.after(() => fake.stop());
  return fake;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0);
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function waitFor(child: ChildProcess, pattern: RegExp): Promise<void> {
  let seen = '';
  for await (const chunk of child.stderr!.iterator({ destroyOnReturn: false })) {
    seen += chunk;
    if (pattern.test(seen)) {
      return;
    }
  }
  throw new Error(`the child never said ${pattern}: ${seen}`);
}

// What /health says, as soon as it says anything.
async function health(port: number): Promise<any> {
  for (;;) {
    const verdict = await fetch(`http://127.0.0.1:${port}/health`).then((response) => response.json(), () => undefined);
    if (verdict) {
      return verdict;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('npm start prints a bounded range, its summary, and ends with 0', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(53312000, 53312000, 6)).then(() => stream.end()));
  const cp = await controlPlane(t);
  const { child, exit } = run(t, [...npm, '53312000', '53312000'],
    { ...environment(cp.port), TTP_SERVICE_ADDRESS: `localhost:${fake.port}`, START_LEDGER: '1' });
  const output = text(child.stdout!);
  deepEqual(await exit, [0, null]);
  const lines = (await output).trimEnd().split('\n');
  equal(lines.length, 7);
  equal(lines[0], '53312000 fee      GA → - 5331.2000000 XLM');
  equal(lines[6], 'ledger 53312000: 6 events = 2 fee + 4 transfer');
  deepEqual({ ...cp.heartbeats.at(-1).metrics }, { events: 6, ledgers: 1, last_ledger: 53312000 });
  equal(cp.registrations[0].service_type, 3);
  deepEqual(cp.registrations[0].input_event_types, ['token_transfer.TokenTransferEvent']);
  deepEqual(cp.unregistered, ['app']);
});

test('OUTPUT=json keeps stdout pure, across a break; ledgers come from the environment', async (t) => {
  const fake = await processor(t, async (stream, attempt) => {
    const all = events(stream.request.start_ledger, 4, 5);
    await send(stream, attempt === 1 ? all.slice(0, 8) : all);
    attempt === 1 ? fail(stream, 14) : stream.end();
  });
  const { child, exit } = run(t, main, {
    TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}`, OUTPUT: 'json', START_LEDGER: '2', END_LEDGER: '4', PORT: '0',
  });
  const [output, errors] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  deepEqual(await exit, [0, null]);
  deepEqual(output.trimEnd().split('\n').map((line) => JSON.parse(line).amount),
    events(2, 4, 5).map((one: any) => (one.fee ?? one.transfer).amount));
  match(errors, /^consumer: the stream from 127.* broke at ledger 3: broken by the test \(UNAVAILABLE\); connecting again$/m);
  match(errors, /^consumer: ledgers 2-4: 15 events = 6 fee \+ 9 transfer$/m);
});

test('100,000 events through a reader that stops for a while', async (t) => {
  let sent = 0;
  function* counted() {
    for (const one of events(1, 100, 1000)) {
      sent++;
      yield one;
    }
  }
  const fake = await processor(t, (stream) => send(stream, counted()).then(() => stream.end()));
  const port = await freePort();
  const { child, exit } = run(t, [...main, '1', '100'], {
    TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}`, HEALTH_PORT: String(port), PORT: '1',
  });
  // Nobody reads: the pipe fills, the consumer stops reading, the processor is held back.
  let before = -1;
  while (sent === 0 || before !== sent) {
    before = sent;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  ok(sent < 90_000, `${sent} of 100000 events were sent though nobody reads`);
  const { status, metrics } = await health(port);
  equal(status, 'healthy');
  ok(metrics.events <= sent);
  const lines = (await text(child.stdout!)).trimEnd().split('\n');
  deepEqual(await exit, [0, null]);
  equal(lines.pop(), 'ledgers 1-100: 100000 events = 33400 fee + 66600 transfer');
  equal(lines.length, 100_000);
  ok(lines.every((line, i) => line.startsWith(`${Math.floor(i / 1000) + 1} `)));
});

test('it is not registered before the processor has been reached', async (t) => {
  const port = await freePort();
  const cp = await controlPlane(t);
  const healthPort = await freePort();
  const { child, exit } = run(t, [...main, '1', '1'],
    { ...environment(cp.port), TTP_SERVICE_ADDRESS: `127.0.0.1:${port}`, HEALTH_PORT: String(healthPort) });
  child.stdout!.resume();
  const { status, registered } = await health(healthPort);
  deepEqual([status, registered, cp.registrations.length], ['starting', false, 0]);
  const late = await new FakeProcessor((stream) => { void cp.until('register', 1).then(() => stream.end()); }).listen(port);
  t.after(() => late.kill());
  deepEqual(await exit, [0, null]);
  equal(cp.registrations.length, 1);
});

for (const [name, command, target] of [['node', main, 1], ['npm and its whole group', npm, -1]] as const) {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal} to ${name} ends a live run with 0`, async (t) => {
      const fake = await processor(t, (stream) => send(stream, events(1, 3, 2)));
      const cp = await controlPlane(t);
      const { child, exit } = run(t, [...command, '1', '0'],
        { ...environment(cp.port), TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}` });
      await cp.until('heartbeat', 1);
      const before = performance.now();
      process.kill(target * child.pid!, signal);
      const errors = text(child.stderr!);
      // npm itself may report the signal it got, and end before its child: the end of the output is the end of all.
      deepEqual((await exit)[0] ?? 0, 0);
      match(await errors, new RegExp(`^consumer: stopped by ${signal} after 6 events, last ledger 3$`, 'm'));
      ok(performance.now() - before < 3000);
      deepEqual(cp.unregistered, ['app']);
    });
  }
}

test('SIGTERM ends it while nobody reads, and while the processor is missing', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(1, 1000, 100)));
  const ports = [await freePort(), await freePort()];
  const blocked = run(t, [...main, '1', '0'], { TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}`, PORT: String(ports[0]) });
  const waiting = run(t, [...main, '1', '0'], { TTP_SERVICE_ADDRESS: `127.0.0.1:${await freePort()}`, PORT: String(ports[1]) });
  // As soon as nobody counts any further, the pipe is full.
  let counted = -1;
  for (let now = 0; now === 0 || now !== counted;) {
    counted = now;
    await new Promise((resolve) => setTimeout(resolve, 200));
    now = (await health(ports[0]!)).metrics.events ?? 0;
  }
  equal((await health(ports[1]!)).status, 'starting');
  const before = performance.now();
  blocked.child.kill('SIGTERM');
  waiting.child.kill('SIGTERM');
  deepEqual([await blocked.exit, await waiting.exit], [[0, null], [0, null]]);
  ok(performance.now() - before < 3000);
});

test('a reader that goes away ends it with 1', async (t) => {
  const fake = await processor(t, (stream) => send(stream, events(1, 1000, 100)));
  const { child, exit } = run(t, [...main, '1', '0'], { TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}`, PORT: '0' });
  await once(child.stdout!, 'data');
  child.stdout!.destroy();
  match(await text(child.stderr!), /^consumer: write events: .*EPIPE/m);
  deepEqual(await exit, [1, null]);
});

test('wrong calls end it with 2, a taken port with 1, each with one sentence', async (t) => {
  const taken = createServer().listen(0);
  t.after(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const cases: [string[], Record<string, string>, number, RegExp][] = [
    [[], {}, 2, /^consumer: the start ledger is missing; .*\n$/],
    [['x'], {}, 2, /^consumer: start ledger: "x" is no whole number .*\n$/],
    [['1'], { HEALTH_PORT: String(port) }, 1, /^consumer: serve health on port \d+: the port is taken\n$/],
    [['1'], { HEALTH_PORT: 'x' }, 1, /^consumer: HEALTH_PORT: "x" is no port from 0 to 65535\n$/],
  ];
  for (const [args, env, code, message] of cases) {
    const { child, exit } = run(t, [...main, ...args], env);
    const errors = await text(child.stderr!);
    deepEqual(await exit, [code, null]);
    match(errors, message);
  }
});

test('a processor that refuses ends it with 1', async (t) => {
  const fake = await processor(t, (stream) => fail(stream, 3, 'no such ledger'));
  const { child, exit } = run(t, [...main, '1', '2'], { TTP_SERVICE_ADDRESS: `127.0.0.1:${fake.port}`, PORT: '0' });
  await waitFor(child, /refuses: no such ledger \(INVALID_ARGUMENT\)/);
  deepEqual(await exit, [1, null]);
});
