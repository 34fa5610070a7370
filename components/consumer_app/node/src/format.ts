import type { Kind, TokenTransferEvent } from './wire';

/** A formatter makes the line for an event, without its newline. */
export type Formatter = (event: TokenTransferEvent) => string;

/** One line for a reader: ledger, kind, from → to, amount, asset. */
export function textLine(event: TokenTransferEvent): string {
  const { ledger, type, from, to, amount, asset, contract } = record(event);
  const name = asset === 'native' ? 'XLM' : asset ?? contract;
  const value = asset ? decimal(amount) : amount;
  return `${ledger} ${type.padEnd(8)} ${from ?? '-'} → ${to ?? '-'} ${value} ${name}`;
}

/** One JSON object for a program; every key is always there, null where it has no meaning for the event. */
export function jsonLine(event: TokenTransferEvent): string {
  return JSON.stringify(record(event));
}

/** The kind of an event, "unknown" for one that is newer than this consumer. */
export function kindOf(event: TokenTransferEvent): Kind | 'unknown' {
  return event.event ?? 'unknown';
}

function record(event: TokenTransferEvent) {
  const { meta } = event;
  const movement = event.event && event[event.event];
  return {
    ledger: meta?.ledger_sequence ?? 0,
    tx: meta?.tx_hash ?? '',
    type: kindOf(event),
    from: movement?.from || null,
    to: movement?.to || null,
    amount: movement?.amount ?? '0',
    asset: assetName(event),
    contract: meta?.contract_address || null,
    tx_index: meta?.transaction_index ?? 0,
    op_index: meta?.operation_index ?? null,
    closed_at: closedAt(event),
    to_muxed: muxed(event),
  };
}

function assetName(event: TokenTransferEvent): string | null {
  const asset = event.event && event[event.event]?.asset;
  if (asset?.asset_type === 'native') {
    return 'native';
  }
  return asset?.issued_asset ? `${asset.issued_asset.asset_code}:${asset.issued_asset.issuer}` : null;
}

function closedAt(event: TokenTransferEvent): string | null {
  const stamp = event.meta?.closed_at;
  const date = new Date(Number(stamp?.seconds) * 1000);
  return stamp && !Number.isNaN(date.getTime()) ? date.toISOString() : null;
}

function muxed(event: TokenTransferEvent): { text: string } | { id: string } | { hash: string } | null {
  const info = event.meta?.to_muxed_info;
  switch (info?.content) {
    case 'text': return { text: info.text! };
    case 'id': return { id: info.id! };
    case 'hash': return { hash: info.hash!.toString('hex') };
    default: return null;
  }
}

// decimal puts the point where Stellar's assets have it: seven digits from the
// end. Done on the text: amounts can be larger than what a number holds exactly.
function decimal(amount: string): string {
  const m = /^(-?)(\d+)$/.exec(amount);
  if (!m) {
    return amount;
  }
  const digits = m[2]!.padStart(8, '0');
  return `${m[1]}${digits.slice(0, -7)}.${digits.slice(-7)}`;
}
