import { deepEqual, doesNotMatch, equal, match, ok, rejects } from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { test, type TestContext } from 'node:test';
import { inspect } from 'node:util';
import { grpc, join, type Member } from '../src';
import { ControlPlane } from '../src/controlplane';
import { refusal } from '../src/refusal';
import { readSettings } from '../src/settings';
import { environment, FakeControlPlane, silent } from './fake';

// Made by certs/make.go.
const pem = (name: string) => path(__dirname, '..', '..', 'test', 'certs', name);
const bytes = (name: string) => readFileSync(pem(name));
const withCA = { FLOWCTL_TLS_CA: pem('ca.pem') };
const identity = (name: string) => ({ ...withCA, FLOWCTL_TLS_CERT: pem(name), FLOWCTL_TLS_KEY: pem('leaf.key') });
const secret = 'canary-token-5f2c';

// A server with that certificate, which asks for one of the CA if it is given.
function secured(certificate: string, clients?: string): grpc.ServerCredentials {
  const pair = { private_key: bytes('leaf.key'), cert_chain: bytes(certificate) };
  return grpc.ServerCredentials.createSsl(clients ? bytes(clients) : null, [pair], clients !== undefined);
}

async function start(t: TestContext, credentials?: grpc.ServerCredentials, address?: string): Promise<FakeControlPlane> {
  const fake = await new FakeControlPlane().listen(0, credentials, address);
  t.after(async () => {
    await Promise.all(fake.guests.map((guest) => guest.leave()));
    fake.stop();
  });
  return fake;
}

async function member(fake: FakeControlPlane, env: Record<string, string>, log: (line: string) => void): Promise<Member> {
  const joined = await join({ role: 'sink', log }, environment(fake.port, env));
  fake.guests.push(joined);
  return joined;
}

function folder(t: TestContext): string {
  const made = mkdtempSync(path(tmpdir(), 'sdk-'));
  t.after(() => rmSync(made, { recursive: true }));
  return made;
}

const plain = () => grpc.ServerCredentials.createInsecure();
const wants = /^it asks for a client certificate: set FLOWCTL_TLS_CERT and FLOWCTL_TLS_KEY$/;
const hangsUp = /^it closes connections before it says anything: it may not accept the client certificate/;

// Each case is a control plane, what a component is told of it, and the cause that it names; undefined: it is let in.
const cases: [string, grpc.ServerCredentials, string, Record<string, string>, RegExp?][] = [
  ['right CA', secured('server.pem'), 'https://127.0.0.1:', withCA],
  ['right CA, no scheme', secured('server.pem'), '127.0.0.1:', withCA],
  ['right CA, by name', secured('localhost.pem'), 'https://localhost:', withCA],
  ['no CA', secured('server.pem'), 'https://127.0.0.1:', {}, /^its certificate is not signed by a CA that Node knows: name .* FLOWCTL_TLS_CA$/],
  ['other CA', secured('server.pem'), '127.0.0.1:', { FLOWCTL_TLS_CA: pem('their-ca.pem') }, /^its certificate is not signed by a CA of .*their-ca.pem: FLOWCTL_TLS_CA must name/],
  ['expired', secured('expired.pem'), '127.0.0.1:', withCA, /^its certificate has expired or is not valid yet/],
  // Its name is localhost, which is also the name an address has in the handshake.
  ['wrong address', secured('localhost.pem'), '127.0.0.1:', withCA, /^its certificate is not for the name in FLOWCTL_ENDPOINT: IP: 127.0.0.1 is not/],
  ['client certificate', secured('server.pem', 'ca.pem'), '127.0.0.1:', identity('client.pem')],
  ['no client certificate', secured('server.pem', 'ca.pem'), '127.0.0.1:', withCA, wants],
  ['client certificate of another CA', secured('server.pem', 'ca.pem'), '127.0.0.1:', identity('their-client.pem'), hangsUp],
  ['expired client certificate', secured('server.pem', 'ca.pem'), '127.0.0.1:', identity('expired.pem'), hangsUp],
  ['client certificate nobody asks for', secured('server.pem'), '127.0.0.1:', identity('their-client.pem')],
  ['TLS to plaintext', plain(), 'https://127.0.0.1:', withCA, /^it speaks no TLS: have it serve TLS/],
  ['plaintext to TLS', secured('server.pem'), 'http://127.0.0.1:', {}, /^it closes connections before it says anything: if it speaks TLS, write https:\/\//],
  ['plaintext to plaintext', plain(), 'http://127.0.0.1:', {}],
];

for (const [name, credentials, endpoint, env, cause] of cases) {
  test(`TLS, ${name}`, async (t) => {
    const fake = await start(t, credentials);
    const lines: string[] = [];
    const { target } = readSettings({ ENABLE_FLOWCTL: 'true', FLOWCTL_ENDPOINT: endpoint + fake.port, ...env });
    const plane = new ControlPlane(target!, (line) => lines.push(line));
    t.after(() => plane.close());
    const beat = () => plane.heartbeat('app', {}, new AbortController().signal);
    if (!cause) {
      await beat();
      deepEqual([lines, fake.heartbeats.length, fake.authorizations], [[], 1, ['']]);
      return;
    }
    for (let n = 0; n < 3; n++) {
      await rejects(beat(), { code: grpc.status.UNAVAILABLE });
    }
    const prefix = `no access to the control plane ${target!.endpoint}: `;
    equal(lines.length, 1, lines.join('\n'));
    ok(lines[0]!.startsWith(prefix), lines[0]);
    match(lines[0]!.slice(prefix.length), cause);
  });
}

test('what Go servers say in the handshake is understood', () => {
  const known = { endpoint: 'h:1', tls: { cert: '/c.pem', key: '/k.pem' } };
  const alert = (words: string, number: number) =>
    `807C:error:0A000418:SSL routines:ssl3_read_bytes:${words}:../rec_layer_s3.c:1601:SSL alert number ${number}\n (2026-11-25T22:06:22.097Z)`;
  const texts: [string, typeof known | { endpoint: string; tls?: {} }, string | undefined][] = [
    [alert('tlsv1 alert unknown ca', 48), known, 'it does not accept the certificate of /c.pem (FLOWCTL_TLS_CERT): unknown ca'],
    [alert('ssl/tls alert certificate expired', 45), known, 'it does not accept the certificate of /c.pem (FLOWCTL_TLS_CERT): certificate expired'],
    [`Error: ${alert('sslv3 alert handshake failure', 40)}`, { endpoint: 'h:1', tls: {} },
      'it ends the TLS handshake, perhaps for want of a client certificate (FLOWCTL_TLS_CERT): handshake failure'],
    [alert('tlsv1 alert internal error', 80), known, 'it ends the TLS handshake: internal error'],
    ['Error: something else (2026-11-25T22:06:22.097Z)', known, 'the TLS handshake fails: Error: something else'],
    ['Error: connect ECONNREFUSED 127.0.0.1:1', known, undefined],
    ['Error: connect ENOENT /run/sock', { endpoint: 'unix:///run/sock' }, undefined],
  ];
  for (const [text, target, cause] of texts) {
    const details = `No connection established. Last error: ${text}. Resolution note: `;
    equal(refusal({ code: grpc.status.UNAVAILABLE, details } as grpc.ServiceError, target)?.cause, cause);
  }
});

test('something that is no control plane is told as such', async (t) => {
  const server = createServer((socket) => { socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'); }).listen(0);
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const lines: string[] = [];
  const plane = new ControlPlane({ endpoint: `127.0.0.1:${port}` }, (line) => lines.push(line));
  t.after(() => plane.close());
  await rejects(plane.heartbeat('app', {}, new AbortController().signal));
  match(lines.join('\n'), /^no access to the control plane [\d.:]+: it does not speak HTTP\/2 here: if it speaks TLS, write https:\/\/[^\n]*$/);
});

test('one that only hangs up does not outdo a reason it has given', async (t) => {
  const fake = await start(t);
  const lines: string[] = [];
  const plane = new ControlPlane({ endpoint: `127.0.0.1:${fake.port}`, tls: { ca: pem('ca.pem') } }, (line) => lines.push(line));
  t.after(() => plane.close());
  const beat = () => plane.heartbeat('app', {}, new AbortController().signal);
  await rejects(beat());
  fake.stop();
  let calls = 0;
  const server = createServer((socket) => { calls++; socket.destroy(); }).listen(fake.port, '127.0.0.1');
  t.after(() => server.close());
  await beatUntil(beat, () => calls > 1);
  match(lines.join('\n'), /^no access to the control plane [\d.:]+: it speaks no TLS[^\n]*$/);
});

test('a component that is let in by TLS, certificate and token says nothing', async (t) => {
  const fake = await start(t, secured('server.pem', 'ca.pem'));
  const lines: string[] = [];
  const env = { ...identity('client.pem'), FLOWCTL_TOKEN: secret };
  const joined = await member(fake, env, (line) => lines.push(line));
  await fake.until('heartbeat', 1);
  const insides = inspect(joined, { depth: 12, showHidden: true });
  await joined.leave();
  deepEqual(new Set(fake.authorizations), new Set([`Bearer ${secret}`]));
  deepEqual([lines.length, fake.unregistered], [1, ['app']], lines.join('\n'));
  match(lines[0]!, /^registered as app with 127/);
  ok(!insides.includes(secret) && !insides.includes('PRIVATE KEY'), 'whoever prints a member prints a secret');
});

test('a component that is refused says why, long before it gives up waiting, and rejects nothing', async (t) => {
  const unhandled: unknown[] = [];
  const onUnhandled = (err: unknown) => unhandled.push(err);
  process.on('unhandledRejection', onUnhandled);
  t.after(() => process.off('unhandledRejection', onUnhandled));
  const fake = await start(t, secured('expired.pem'));
  const lines: string[] = [];
  let told = () => {};
  const first = new Promise<void>((resolve) => { told = resolve; });
  const before = performance.now();
  const joined = await member(fake, withCA, (line) => { lines.push(line); told(); });
  await first;
  ok(performance.now() - before < 4500); // a registration waits 5 s
  await joined.leave();
  deepEqual(lines, [`no access to the control plane 127.0.0.1:${fake.port}: ` +
    'its certificate has expired or is not valid yet: renew it, or set the clock of this machine']);
  deepEqual(unhandled, []);
});

for (const [token, code, cause] of [
  [secret, grpc.status.UNAUTHENTICATED, 'it does not accept the token of FLOWCTL_TOKEN'],
  ['', grpc.status.UNAUTHENTICATED, 'it asks for a token: set FLOWCTL_TOKEN'],
  [secret, grpc.status.PERMISSION_DENIED, 'it does not permit this component to join'],
] as const) {
  test(`a refusal is told once, without the token: ${cause}`, async (t) => {
    const fake = await start(t);
    fake.details = `what is ${secret} to me`;
    fake.refusals = [code, code, code];
    const lines: string[] = [];
    const joined = await member(fake, { FLOWCTL_TOKEN: token }, (line) => lines.push(line));
    await fake.until('heartbeat', 1);
    fake.refusals = [code, code, code]; // refused again, which is news
    await fake.until('heartbeat', fake.heartbeats.length + 2);
    fake.refusals = [code];
    const refused = token ? `what is <FLOWCTL_TOKEN> to me` : fake.details;
    await rejects(joined.beat(), (err: Error) => !token || !inspect(err).includes(secret));
    await joined.leave();
    const line = `no access to the control plane 127.0.0.1:${fake.port}: ${cause} (it says: ${refused})`;
    deepEqual(lines, [line, `registered as app with 127.0.0.1:${fake.port}`, line, line]);
    deepEqual(new Set(fake.authorizations), new Set([token && `Bearer ${token}`]));
  });
}

for (const [name, env, credentials] of [
  ['plaintext', {}, undefined], ['TLS', withCA, secured('localhost.pem')],
] as const) {
  test(`a unix socket, ${name}`, async (t) => {
    const endpoint = `unix://${path(folder(t), 'a b%41?c#d')}`;
    const fake = await start(t, credentials, endpoint);
    const joined = await member(fake, { FLOWCTL_ENDPOINT: endpoint, ...env }, silent);
    await fake.until('heartbeat', 1);
    await joined.leave();
    deepEqual(fake.unregistered, ['app']);
  });
}

test('renewed files are taken up with the next connection, half-written ones are not', async (t) => {
  const made = folder(t);
  const files = { FLOWCTL_TLS_CA: path(made, 'ca'), FLOWCTL_TLS_CERT: path(made, 'cert'), FLOWCTL_TLS_KEY: path(made, 'key') };
  const replace = (file: string, data: Buffer | string) => {
    writeFileSync(path(made, 'new'), data);
    renameSync(path(made, 'new'), file);
  };
  replace(files.FLOWCTL_TLS_CA, bytes('ca.pem'));
  replace(files.FLOWCTL_TLS_CERT, bytes('client.pem'));
  copyFileSync(pem('leaf.key'), files.FLOWCTL_TLS_KEY);
  let fake = await start(t, secured('server.pem', 'ca.pem'));
  const lines: string[] = [];
  const { target } = readSettings(environment(fake.port, files));
  const plane = new ControlPlane(target!, (line) => lines.push(line));
  t.after(() => plane.close());
  const beat = () => plane.heartbeat('app', {}, new AbortController().signal);
  const restart = async (credentials: grpc.ServerCredentials) => {
    const { port } = fake;
    fake.stop();
    await rejects(beat());
    fake = await new FakeControlPlane().listen(port, credentials);
    t.after(() => fake.stop());
  };
  await beat();

  replace(files.FLOWCTL_TLS_CA, bytes('their-ca.pem').subarray(0, 200));
  await restart(secured('server.pem', 'ca.pem'));
  await beatUntil(beat, () => lines.length > 0);
  await beatUntil(beat, () => fake.heartbeats.length > 0);
  deepEqual(lines, [`TLS files cannot be used, going on with what they were: FLOWCTL_TLS_CA: ${files.FLOWCTL_TLS_CA} is not whole: a PEM block has no end`]);

  await restart(secured('their-server.pem', 'their-ca.pem'));
  await beatUntil(beat, () => lines.length > 1);
  match(lines[1]!, /not signed by a CA of/);
  replace(files.FLOWCTL_TLS_CERT, bytes('their-client.pem'));
  replace(files.FLOWCTL_TLS_CA, bytes('their-ca.pem'));
  await beatUntil(beat, () => fake.heartbeats.length > 0);
  equal(lines.length, 2, lines.join('\n'));
  doesNotMatch(lines.join('\n'), /PRIVATE KEY/);
});

// Beats until the condition holds; fails by the test's own timeout.
async function beatUntil(beat: () => Promise<unknown>, done: () => boolean): Promise<void> {
  while (!done()) {
    await beat().catch(() => {});
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('files that cannot be used are refused at once, with variable and file', async (t) => {
  const made = folder(t);
  const half = path(made, 'half.pem');
  writeFileSync(half, bytes('ca.pem').subarray(0, 200));
  const words = path(made, 'words.pem');
  writeFileSync(words, 'no PEM');
  const rubbish = path(made, 'rubbish.pem');
  writeFileSync(rubbish, '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n');
  const absent = path(made, 'absent.pem');
  const pair = (cert: string, key: string) => ({ FLOWCTL_TLS_CERT: cert, FLOWCTL_TLS_KEY: key });
  const cases: [Record<string, string>, string][] = [
    [{ FLOWCTL_TLS_CA: absent }, `FLOWCTL_TLS_CA: ENOENT: no such file or directory, open '${absent}'`],
    [{ FLOWCTL_TLS_CA: words }, `FLOWCTL_TLS_CA: ${words} is not a PEM file`],
    [{ FLOWCTL_TLS_CA: half }, `FLOWCTL_TLS_CA: ${half} is not whole: a PEM block has no end`],
    [{ FLOWCTL_TLS_CA: rubbish }, `FLOWCTL_TLS_CA: ${rubbish} has no certificate in it`],
    [{ FLOWCTL_TLS_CA: pem('leaf.key') }, `FLOWCTL_TLS_CA: ${pem('leaf.key')} has no certificate in it`],
    [pair(absent, pem('leaf.key')), `FLOWCTL_TLS_CERT: ENOENT: no such file or directory, open '${absent}'`],
    [pair(pem('leaf.key'), pem('leaf.key')), `FLOWCTL_TLS_CERT: ${pem('leaf.key')} has no certificate in it`],
    [pair(pem('client.pem'), pem('client.pem')), `FLOWCTL_TLS_KEY: ${pem('client.pem')} has no private key without a passphrase in it`],
    [pair(pem('client.pem'), pem('other.key')), `FLOWCTL_TLS_KEY: ${pem('other.key')} is not the key of ${pem('client.pem')} (FLOWCTL_TLS_CERT)`],
    [{ FLOWCTL_TLS_CERT: pem('client.pem') }, `FLOWCTL_TLS_CERT: ${pem('client.pem')} has no key: set FLOWCTL_TLS_KEY too`],
  ];
  for (const [env, message] of cases) {
    await rejects(join({ role: 'sink', log: silent }, environment(1, env)), { message });
  }
});

// In a process of its own: Node reads the variable when it starts, and a warning comes once.
test('without a CA those that Node knows count, and nothing is printed', async (t) => {
  const fake = await start(t, secured('server.pem'));
  const env = environment(fake.port, {
    FLOWCTL_ENDPOINT: `https://127.0.0.1:${fake.port}`, NODE_EXTRA_CA_CERTS: pem('ca.pem'),
  });
  const hello = spawn(process.execPath, [path(__dirname, '..', 'examples', 'hello.js')], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  t.after(() => { hello.kill('SIGKILL'); });
  let printed = '';
  hello.stderr.on('data', (data) => { printed += data; });
  const exit = once(hello, 'close');
  await fake.until('heartbeat', 1);
  hello.kill();
  deepEqual(await exit, [0, null]);
  equal(printed, `flowctl: registered as app with 127.0.0.1:${fake.port}\n`);
});
