/**
 * Progress decides which events of a broken and reopened stream are new. It
 * relies on two promises of the processor: events come in ledger order, and
 * the events of one ledger come in the same order every time.
 */
export class Progress {
  /** How many events were new. */
  total = 0;

  // How many events of `current` have been taken, and the place of the last
  // one of it in the present stream.
  private taken = 0;
  private place = 0;

  /** current is the ledger that a new stream has to start with: the first one not known to be complete. */
  constructor(public current: number) {}

  /** Begins a new stream, which starts with the ledger `current`. */
  reopen(): void {
    this.place = 0;
  }

  /** Takes the next event of the stream. Answers whether it is new. */
  take(ledger: number): boolean {
    if (ledger < this.current) {
      return false;
    }
    if (ledger > this.current) {
      this.current = ledger;
      this.taken = 0;
      this.place = 0;
    }
    this.place++;
    if (this.place <= this.taken) {
      return false;
    }
    this.taken = this.place;
    this.total++;
    return true;
  }
}
