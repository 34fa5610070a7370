import { deepEqual, equal, throws } from 'node:assert/strict';
import { test } from 'node:test';
import { parseInterval } from '../src/duration';
import { readSettings, type Environment } from '../src/settings';
import { backoff } from '../src/wait';

test('intervals are Go durations or milliseconds', () => {
  const cases: [string, number][] = [
    ['10000ms', 10_000], ['10s', 10_000], ['10000', 10_000], ['1m30s', 90_000], ['1.5h', 5_400_000], ['.5s', 500],
    ['250us', 1], ['1500µs', 2], ['3000000ns', 3], ['1', 1], ['9000h', 2 ** 31 - 1],
  ];
  for (const [text, ms] of cases) {
    equal(parseInterval(text), ms, text);
  }
});

test('what is no positive interval is refused', () => {
  for (const text of ['0', '0s', '-1s', 'ten', '10 s', 's', '10x', '10s!', '1s30', '1e3', 'Infinity', '..5s']) {
    throws(() => parseInterval(text), /is no interval/, text);
  }
});

test('settings of an empty environment', () => {
  deepEqual(readSettings({}), {
    target: undefined, interval: 10_000, id: '', healthPort: undefined, healthEndpoint: undefined,
  });
});

test('both switches turn the control plane on, only with the exact value', () => {
  for (const name of ['ENABLE_FLOWCTL', 'FLOWCTL_ENABLED']) {
    deepEqual(readSettings({ [name]: 'true' }).target, { endpoint: 'localhost:8080', tls: undefined, token: undefined });
    for (const value of ['TRUE', '1', 'false', '']) {
      equal(readSettings({ [name]: value }).target, undefined, value);
    }
  }
});

const target = (env: Environment) => readSettings({ ENABLE_FLOWCTL: 'true', ...env }).target!;

test('the endpoint may have a scheme', () => {
  const cases: [string, string, boolean][] = [
    ['localhost:9000', 'localhost:9000', false],
    ['http://localhost:9000', 'localhost:9000', false],
    ['http://127.0.0.1:9000/', '127.0.0.1:9000', false],
    ['[::1]:9000', '[::1]:9000', false],
    ['https://localhost:9000/', 'localhost:9000', true],
    ['unix:///run/f 1%.sock', 'unix:///run/f 1%.sock', false],
    ['unix:9000', 'unix:9000', false],
  ];
  for (const [text, endpoint, tls] of cases) {
    const got = target({ FLOWCTL_ENDPOINT: text });
    deepEqual([got.endpoint, got.tls !== undefined], [endpoint, tls], text);
  }
  for (const text of ['localhost', 'https://localhost', 'https://http://h:1', 'a b:1', 'http://:9000x']) {
    throws(() => target({ FLOWCTL_ENDPOINT: text }), /^Error: FLOWCTL_ENDPOINT: ".*" is no host:port/, text);
  }
  for (const text of ['unix:///', 'unix://run/sock', 'unix:/run/sock']) {
    throws(() => target({ FLOWCTL_ENDPOINT: text }), /^Error: FLOWCTL_ENDPOINT: ".*" is not unix:\/\/\/path, with an absolute path/, text);
  }
});

test('files mean TLS', () => {
  const files = { FLOWCTL_TLS_CA: ' /ca.pem\n', FLOWCTL_TLS_CERT: '/c.pem', FLOWCTL_TLS_KEY: '/k.pem' };
  deepEqual(target(files).tls, { ca: '/ca.pem', cert: '/c.pem', key: '/k.pem' });
  deepEqual(target({ FLOWCTL_TLS_CA: '/ca.pem' }).tls, { ca: '/ca.pem', cert: undefined, key: undefined });
  throws(() => target({ FLOWCTL_TLS_CERT: '/c.pem' }), /^Error: FLOWCTL_TLS_CERT: \/c.pem has no key: set FLOWCTL_TLS_KEY too$/);
  throws(() => target({ FLOWCTL_TLS_KEY: '/k.pem' }), /^Error: FLOWCTL_TLS_KEY: \/k.pem has no certificate: set FLOWCTL_TLS_CERT too$/);
  throws(() => target({ ...files, FLOWCTL_ENDPOINT: 'http://h:1' }),
    /^Error: FLOWCTL_ENDPOINT: http:\/\/h:1 means no TLS, and FLOWCTL_TLS_CA \(\/ca.pem\) means TLS: write https:\/\/ or unset it$/);
  throws(() => target({ ...files, FLOWCTL_TLS_CA: '', FLOWCTL_ENDPOINT: 'http://h:1' }), /FLOWCTL_TLS_CERT \(\/c.pem\) means TLS/);
});

test('a token is taken, and not shown if it makes no sense', () => {
  equal(target({ FLOWCTL_TOKEN: 'a.b-c~d+e/f==\n' }).token!(), 'a.b-c~d+e/f==');
  equal(target({ FLOWCTL_TOKEN: ' ' }).token, undefined);
  for (const text of ['sec ret', 'sec\nret', 's\0ecret', 'secr\u00e9t']) {
    throws(() => target({ FLOWCTL_TOKEN: text }), { message: /^FLOWCTL_TOKEN: (?!.*sec)it has a blank/ });
  }
});

test('a bad endpoint is no concern of a component without a control plane', () => {
  equal(readSettings({ FLOWCTL_ENDPOINT: 'nonsense', FLOWCTL_TLS_KEY: '/k' }).target, undefined);
});

test('each of the four ids is read, in their order', () => {
  const ids = ['FLOWCTL_COMPONENT_ID', 'COMPONENT_ID', 'FLOWCTL_SERVICE_ID', 'SERVICE_ID'];
  const env: Record<string, string> = {};
  for (const name of [...ids].reverse()) {
    env[name] = name.toLowerCase();
    equal(readSettings(env).id, name.toLowerCase());
  }
});

test('a bad port names its variable', () => {
  for (const text of ['http', '65536', '-1', '80.5']) {
    throws(() => readSettings({ HEALTH_PORT: text }), /^Error: HEALTH_PORT: ".*" is no port from 0 to 65535/, text);
  }
});

test('back-off grows from 100 ms to 5 s', () => {
  deepEqual([1, 2, 3, 6, 7, 8, 5000].map(backoff), [100, 200, 400, 3200, 5000, 5000, 5000]);
});
