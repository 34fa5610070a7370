import { deepEqual, equal, match, ok, rejects } from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { grpc, join, type Component, type Member } from '../src';
import { environment, FakeControlPlane, silent } from './fake';

async function start(t: TestContext, fake = new FakeControlPlane()): Promise<FakeControlPlane> {
  await fake.listen();
  t.after(async () => {
    await Promise.all(fake.guests.map((guest) => guest.leave()));
    fake.stop();
  });
  return fake;
}

async function member(fake: FakeControlPlane, env = {}, more: Partial<Component> = {}): Promise<Member> {
  const joined = await join({ role: 'processor', log: silent, ...more }, environment(fake.port, env));
  fake.guests.push(joined);
  return joined;
}

async function health(joined: Member): Promise<any> {
  const response = await fetch(`http://127.0.0.1:${joined.healthPort}/health`);
  equal(response.status, 200);
  return response.json();
}

test('a registration carries everything the component said', async (t) => {
  const fake = await start(t);
  const joined = await member(fake, {}, { inputs: ['raw'], outputs: ['cooked'], maxInflight: 7, metadata: { team: 'blue' } });
  await fake.until('register', 1);
  deepEqual({ ...fake.registrations[0], metadata: { ...fake.registrations[0].metadata } }, {
    service_id: 'app', service_type: 2, input_event_types: ['raw'], output_event_types: ['cooked'],
    health_endpoint: `http://localhost:${joined.healthPort}/health`, max_inflight: 7,
    metadata: { team: 'blue', component_id: 'app' }, component_id: 'app',
  });
});

test('roles are numbered as on the wire', async (t) => {
  const fake = await start(t);
  for (const [role, number] of [['source', 1], ['processor', 2], ['sink', 3]] as const) {
    fake.registrations = [];
    const joined = await member(fake, {}, { role });
    await fake.until('register', 1);
    equal(fake.registrations[0].service_type, number);
    await joined.leave();
  }
});

test('HEALTH_ENDPOINT and an endpoint with a scheme are honoured', async (t) => {
  const fake = await start(t);
  await member(fake, { HEALTH_ENDPOINT: 'http://example:1/health', FLOWCTL_ENDPOINT: `http://127.0.0.1:${fake.port}` });
  await fake.until('register', 1);
  equal(fake.registrations[0].health_endpoint, 'http://example:1/health');
});

test('a proxy is not used', async (t) => {
  const fake = await start(t);
  process.env.http_proxy = 'http://127.0.0.1:1';
  t.after(() => { delete process.env.http_proxy; });
  await member(fake);
  await fake.until('register', 1);
});

test('a control plane that comes late is found', async (t) => {
  const fake = await start(t);
  fake.stop();
  const lines: string[] = [];
  const joined = await member(fake, {}, { log: (line) => lines.push(line) });
  equal((await health(joined)).registered, false);
  const late = await new FakeControlPlane().listen(fake.port);
  t.after(() => late.stop());
  await late.until('heartbeat', 1);
  equal(joined.registered, true);
  match(lines.join('\n'), /registered as app with 127\.0\.0\.1:/);
});

test('a refused registration is tried again, and told of once', async (t) => {
  const fake = await start(t);
  fake.refusals = [grpc.status.UNAVAILABLE, grpc.status.UNAVAILABLE];
  const lines: string[] = [];
  await member(fake, {}, { log: (line) => lines.push(line) });
  await fake.until('heartbeat', 1);
  equal(fake.registrations.length, 1);
  equal(lines.filter((line) => line.includes('not registered')).length, 1);
});

test('the id of the ack is used from then on', async (t) => {
  const fake = await start(t);
  fake.ackID = 'chosen-by-server';
  const joined = await member(fake);
  await fake.until('heartbeat', 1);
  equal(joined.id, 'chosen-by-server');
  equal(fake.heartbeats[0].service_id, 'chosen-by-server');
  await joined.leave();
  deepEqual(fake.unregistered, ['chosen-by-server']);
});

test('heartbeats carry the metrics of that moment', async (t) => {
  const fake = await start(t);
  const joined = await member(fake, { FLOWCTL_HEARTBEAT_INTERVAL: '10m' });
  await fake.until('register', 1);
  await settle(() => joined.registered);
  joined.report('lag', 2.5);
  joined.report('broken', NaN);
  joined.count('events');
  joined.count('events', 41);
  await joined.beat();
  deepEqual({ ...fake.heartbeats[0].metrics }, { lag: 2.5, events: 42 });
  ok(Math.abs(Number(fake.heartbeats[0].timestamp.seconds) - Date.now() / 1000) < 60);
});

for (const answer of ['again', 'not found'] as const) {
  test(`a heartbeat answered with "${answer}" makes it register again`, async (t) => {
    const fake = await start(t);
    fake.heartbeatAnswer = answer;
    await member(fake);
    await fake.until('heartbeat', 1);
    fake.heartbeatAnswer = 'ok';
    await fake.until('register', 2);
    const beats = fake.heartbeats.length;
    await fake.until('heartbeat', beats + 2);
    ok(fake.registrations.length <= 3, `${fake.registrations.length} registrations`);
  });
}

test('a beat of the author that finds itself forgotten registers at once', async (t) => {
  const fake = await start(t);
  const joined = await member(fake, { FLOWCTL_HEARTBEAT_INTERVAL: '10m' });
  await settle(() => joined.registered);
  fake.heartbeatAnswer = 'again';
  await joined.beat();
  await fake.until('register', 2);
});

test('a control plane that was restarted hears of it again', async (t) => {
  const fake = await start(t);
  const joined = await member(fake);
  await fake.until('heartbeat', 1);
  fake.stop();
  const second = new FakeControlPlane();
  second.heartbeatAnswer = 'again';
  await second.listen(fake.port);
  t.after(() => second.stop());
  await second.until('register', 1);
  second.heartbeatAnswer = 'ok';
  await settle(() => joined.registered);
});

test('the health endpoint tells status, reason and metrics', async (t) => {
  const fake = await start(t);
  const joined = await member(fake);
  await fake.until('heartbeat', 1);
  joined.count('events', 3);
  deepEqual(await health(joined), {
    status: 'healthy', component: 'app', service_id: 'app', registered: true, metrics: { events: 3 },
  });
  joined.setHealth('degraded', 'the source is slow');
  const { status, reason } = await health(joined);
  deepEqual({ status, reason }, { status: 'degraded', reason: 'the source is slow' });
  for (const path of ['/other', '//', '/', '/health/more']) {
    equal((await fetch(`http://127.0.0.1:${joined.healthPort}${path}`)).status, 404);
  }
  equal((await fetch(`http://127.0.0.1:${joined.healthPort}/health?verbose`)).status, 200);
});

test('nobody is registered before it serves', async (t) => {
  const fake = await start(t);
  let serve = () => {};
  const serving = new Promise<void>((resolve) => { serve = resolve; });
  const joined = await member(fake, {}, { serving });
  equal((await health(joined)).status, 'starting');
  equal(fake.registrations.length, 0);
  serve();
  await fake.until('register', 1);
  equal((await health(joined)).status, 'healthy');
});

test('leaving before it serves is quick and announces nothing', async (t) => {
  const fake = await start(t);
  const joined = await member(fake, {}, { serving: new Promise(() => {}) });
  await joined.leave();
  deepEqual([fake.registrations, fake.unregistered], [[], []]);
});

test('without the switch only health is served', async (t) => {
  const fake = await start(t);
  const joined = await join({ role: 'sink', log: silent }, environment(fake.port, { ENABLE_FLOWCTL: 'false' }));
  equal((await health(joined)).status, 'healthy');
  await joined.beat();
  await joined.leave();
  deepEqual([fake.registrations, fake.heartbeats, fake.unregistered], [[], [], []]);
});

test('a taken health port is an error that names it', async (t) => {
  const taken = createServer().listen(0);
  t.after(() => taken.close());
  const port = String((taken.address() as AddressInfo).port);
  await rejects(join({ role: 'sink', log: silent }, { HEALTH_PORT: port }),
    new RegExp(`^Error: serve health on port ${port}: the port is taken$`));
});

test('the port of the author is used where the environment names none', async (t) => {
  const joined = await join({ role: 'sink', healthPort: 0, log: silent }, {});
  t.after(() => joined.leave());
  ok(joined.healthPort! > 0);
});

test('leave sends the last metrics, deregisters and closes', async (t) => {
  const fake = await start(t);
  const joined = await member(fake, { FLOWCTL_HEARTBEAT_INTERVAL: '10m' });
  await settle(() => joined.registered);
  joined.count('events', 296);
  const port = joined.healthPort;
  await Promise.all([joined.leave(), joined.leave()]);
  deepEqual(fake.heartbeats.map((beat) => beat.metrics.events), [296]);
  deepEqual(fake.unregistered, ['app']);
  await rejects(fetch(`http://127.0.0.1:${port}/health`));
  await joined.beat();
  equal(fake.heartbeats.length, 1);
});

test('a control plane that cannot deregister is left in peace', async (t) => {
  const fake = await start(t, new FakeControlPlane(false));
  const joined = await member(fake);
  await fake.until('register', 1);
  await joined.leave();
});

test('leave is bounded when the control plane says nothing', async (t) => {
  const fake = await start(t);
  const joined = await member(fake);
  await settle(() => joined.registered);
  fake.heartbeatAnswer = 'nothing';
  await fake.until('heartbeat', fake.heartbeats.length + 1);
  const before = performance.now();
  await joined.leave();
  ok(performance.now() - before < 3000);
});

test('leave is quick when the control plane has gone', async (t) => {
  const fake = await start(t);
  const joined = await member(fake);
  await fake.until('heartbeat', 1);
  fake.stop();
  const before = performance.now();
  await joined.leave();
  ok(performance.now() - before < 1400);
});

test('leave is bounded when the control plane was never there', async (t) => {
  const fake = await start(t);
  fake.stop();
  const joined = await member(fake);
  const before = performance.now();
  await joined.leave();
  ok(performance.now() - before < 3000);
});

test('a component that is done at once is registered all the same, with its metrics', async (t) => {
  const fake = await start(t);
  const joined = await member(fake);
  joined.count('events', 5);
  await joined.leave();
  deepEqual([fake.registrations.length, fake.heartbeats.map((beat) => beat.metrics.events), fake.unregistered], [1, [5], ['app']]);
});

test('a leave gives the signals back, unless one of them was the reason', async (t) => {
  const fake = await start(t);
  const before = process.listeners('SIGTERM');
  await (await member(fake)).leave();
  deepEqual(process.listeners('SIGTERM'), before);
  const joined = await member(fake);
  process.emit('SIGTERM', 'SIGTERM');
  equal(joined.signal.reason, 'SIGTERM');
  await joined.leave();
  const kept = process.listeners('SIGTERM').filter((listener) => !before.includes(listener));
  equal(kept.length, 1);
  process.off('SIGTERM', kept[0]!).off('SIGINT', kept[0]!);
});

// Waits for a condition that follows an answer on its way; fails by the test's own timeout.
async function settle(done: () => boolean): Promise<void> {
  while (!done()) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
