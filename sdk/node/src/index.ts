/**
 * For authors of components: join() makes a Node program a member of a flowctl
 * pipeline. See the README for an example and the variables.
 */
export { join, Member, type Component, type HealthStatus, type Role } from './member';
export { channelOptions, grpc, loadService } from './grpc';
export { parsePort, type Environment } from './settings';
export { backoff, sleep } from './wait';
