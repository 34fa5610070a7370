/** Tally counts events by kind. */
export class Tally {
  /** All events. */
  events = 0;
  private readonly kinds = new Map<string, number>();

  /** Counts one event. */
  add(kind: string): void {
    this.events++;
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
  }

  /** The line at the end of a bounded range: "ledger 7: 3 events = 1 fee + 2 transfer". */
  summary(start: number, end: number): string {
    const range = start === end ? `ledger ${start}` : `ledgers ${start}-${end}`;
    const kinds = [...this.kinds].sort(([a], [b]) => (a < b ? -1 : 1)).map(([kind, n]) => `${n} ${kind}`);
    const sum = kinds.length > 0 ? ` = ${kinds.join(' + ')}` : '';
    return `${range}: ${this.events} ${this.events === 1 ? 'event' : 'events'}${sum}`;
  }
}
