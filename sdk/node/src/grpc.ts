import * as grpc from '@grpc/grpc-js';
import * as protoLoader from '@grpc/proto-loader';

/** The @grpc/grpc-js this SDK uses. A component that uses it too loads it once. */
export { grpc };

/**
 * Options for channels inside a pipeline: no HTTP proxy (grpc-js would send
 * even loopback through one), and a peer that comes up late is found quickly:
 * connection attempts 100 ms apart, growing to 5 s.
 */
export const channelOptions: grpc.ClientOptions = {
  'grpc.enable_http_proxy': 0,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 5000,
};

/**
 * Loads a .proto file and answers with the constructor of a client (and the
 * definition of the service, as its `.service`). Field names stay as written
 * in the file, 64-bit numbers become strings, enums numbers.
 * Throws if the file cannot be read or has no such service.
 *
 * @param file path of the .proto file, relative to one of includeDirs
 * @param service full name of the service: package.Service
 */
export function loadService(file: string, includeDirs: string[], service: string): grpc.ServiceClientConstructor {
  const definition = protoLoader.loadSync(file, {
    includeDirs, keepCase: true, longs: String, defaults: true, oneofs: true,
  })[service];
  if (!definition || 'format' in definition) {
    throw new Error(`${file} has no service ${service}`);
  }
  return grpc.makeClientConstructor(definition, service);
}
