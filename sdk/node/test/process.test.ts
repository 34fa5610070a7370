import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { environment, FakeControlPlane } from './fake';

const root = join(__dirname, '..', '..');

async function child(t: TestContext, args: string[], env: Record<string, string>): Promise<ChildProcess> {
  const started = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => { started.kill('SIGKILL'); });
  return started;
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`the example of the README joins, and leaves on ${signal} with code 0`, async (t) => {
    const fake = await new FakeControlPlane().listen();
    t.after(() => fake.stop());
    const hello = await child(t, [join(root, 'dist/examples/hello.js')], environment(fake.port));
    const exit = once(hello, 'exit');
    match(String((await once(hello.stdout!, 'data'))[0]), /hello/);
    await fake.until('heartbeat', 1);
    hello.kill(signal);
    // npm passes on a signal that the process has got already.
    hello.kill(signal);
    deepEqual(await exit, [0, null]);
    deepEqual(fake.unregistered, ['app']);
    ok(fake.heartbeats.at(-1).metrics.greetings > 0);
  });
}

test('after leave() nothing keeps the process alive', async (t) => {
  const fake = await new FakeControlPlane().listen();
  t.after(() => fake.stop());
  const program = `
    const { join } = require(${JSON.stringify(join(root, 'dist/src'))});
    join({ role: 'sink', log: () => {} }).then(async (member) => {
      await fetch('http://127.0.0.1:' + member.healthPort + '/health').then((r) => r.text());
      while (!member.registered) await new Promise((resolve) => setImmediate(resolve));
      await member.leave();
      console.log('left');
    });`;
  const leaver = await child(t, ['-e', program], environment(fake.port, { FLOWCTL_HEARTBEAT_INTERVAL: '10m' }));
  const exit = once(leaver, 'exit');
  equal(String((await once(leaver.stdout!, 'data'))[0]), 'left\n');
  const before = performance.now();
  deepEqual(await exit, [0, null]);
  ok(performance.now() - before < 1200);
});

test('the README shows the tested example, in under 20 lines', () => {
  const example = readFileSync(join(root, 'examples/hello.ts'), 'utf8');
  const body = example.slice(example.indexOf('async function'));
  ok(example.trimEnd().split('\n').length < 20);
  ok(readFileSync(join(root, 'README.md'), 'utf8').includes(body));
});
