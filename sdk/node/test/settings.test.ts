import { deepEqual, equal, throws } from 'node:assert/strict';
import { test } from 'node:test';
import { parseInterval } from '../src/duration';
import { readSettings } from '../src/settings';
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
    endpoint: undefined, interval: 10_000, id: '', healthPort: undefined, healthEndpoint: undefined,
  });
});

test('both switches turn the control plane on, only with the exact value', () => {
  for (const name of ['ENABLE_FLOWCTL', 'FLOWCTL_ENABLED']) {
    equal(readSettings({ [name]: 'true' }).endpoint, 'localhost:8080');
    for (const value of ['TRUE', '1', 'false', '']) {
      equal(readSettings({ [name]: value }).endpoint, undefined, value);
    }
  }
});

test('the endpoint may have a scheme', () => {
  const endpoint = (text: string) => readSettings({ ENABLE_FLOWCTL: 'true', FLOWCTL_ENDPOINT: text }).endpoint;
  equal(endpoint('localhost:9000'), 'localhost:9000');
  equal(endpoint('http://localhost:9000'), 'localhost:9000');
  equal(endpoint('http://127.0.0.1:9000/'), '127.0.0.1:9000');
  equal(endpoint('[::1]:9000'), '[::1]:9000');
  for (const text of ['localhost', 'https://localhost:1', 'a b:1', 'http://:9000x']) {
    throws(() => endpoint(text), /^Error: FLOWCTL_ENDPOINT: ".*" is no host:port/, text);
  }
});

test('a bad endpoint is no concern of a component without a control plane', () => {
  equal(readSettings({ FLOWCTL_ENDPOINT: 'nonsense' }).endpoint, undefined);
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
