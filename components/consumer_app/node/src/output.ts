import type { Writable } from 'node:stream';

// How much may wait in memory for a slow reader, in characters.
const limit = 64 * 1024;

/**
 * Output writes lines to a stream in batches: whatever came in one turn of the
 * event loop, as soon as the turn is over. Memory stays bounded if the caller
 * waits when told to.
 */
export class Output {
  private pending = '';
  private writing?: Promise<void>;
  private failure?: Error;

  constructor(private readonly stream: Writable) {
    stream.on('error', (err) => { this.failure = err; });
  }

  /**
   * Takes a line. Answers with a promise if the reader lags behind: wait for it before the next line.
   * Throws, or rejects, once the stream is broken.
   */
  line(text: string): Promise<void> | undefined {
    this.check();
    this.pending += text + '\n';
    this.writing ??= this.write();
    return this.pending.length < limit ? undefined : this.flush();
  }

  /** Resolves when every line taken so far has been handed to the reader's side. Rejects if the stream is broken. */
  async flush(): Promise<void> {
    await this.writing;
    this.check();
  }

  private async write(): Promise<void> {
    await new Promise(setImmediate);
    while (this.pending && !this.failure) {
      const batch = this.pending;
      this.pending = '';
      await new Promise<void>((resolve) => this.stream.write(batch, (err) => {
        this.failure ??= err ?? undefined;
        resolve();
      }));
    }
    this.writing = undefined;
  }

  private check(): void {
    if (this.failure) {
      throw new Error(`write events: ${this.failure.message}`);
    }
  }
}
