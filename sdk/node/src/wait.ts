import { setTimeout } from 'node:timers/promises';

/** Waits for so many milliseconds, or until the signal is aborted. Never rejects. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal }).catch(() => {});
}

/** Milliseconds to wait after so many failures in a row: 100, 200, 400 … up to 5000. */
export function backoff(failures: number): number {
  return Math.min(100 * 2 ** Math.max(failures - 1, 0), 5000);
}

/** Waits for the promise or for the signal. Answers whether the promise was kept. */
export async function settled(promise: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) {
    return false;
  }
  return await new Promise<boolean>((resolve) => {
    const aborted = () => resolve(false);
    signal.addEventListener('abort', aborted);
    promise.then(() => resolve(true), () => resolve(false))
      .finally(() => signal.removeEventListener('abort', aborted));
  });
}
