import { join } from 'node:path';
import { channelOptions, grpc, loadService } from '@withobsrvr/flowctl';

interface Asset {
  asset_type?: 'native' | 'issued_asset';
  issued_asset?: { asset_code: string; issuer: string };
}

interface Movement {
  from?: string;
  to?: string;
  asset: Asset | null;
  amount: string;
}

/** The kinds of events there are. */
export type Kind = 'transfer' | 'mint' | 'burn' | 'clawback' | 'fee';

/** TokenTransferEvent as it comes from the processor: `event` names the member that is set. */
export type TokenTransferEvent = { event?: Kind } & { [kind in Kind]?: Movement } & {
  meta: {
    ledger_sequence: number;
    closed_at: { seconds: string; nanos: number } | null;
    tx_hash: string;
    transaction_index: number;
    operation_index?: number;
    contract_address: string;
    to_muxed_info: { content?: 'text' | 'id' | 'hash'; text?: string; id?: string; hash?: Buffer } | null;
  } | null;
};

/** The constructor of clients of the processor's EventService; `.service` is its definition. */
export function eventService(): grpc.ServiceClientConstructor {
  const includeDir = join(__dirname, '..', '..', 'proto');
  return loadService('event_service.proto', [includeDir], 'token_transfer_service.EventService');
}

/** EventClient is a connection to a processor. */
export class EventClient {
  private readonly client: InstanceType<grpc.ServiceClientConstructor>;

  /** Connects in the background. Close it to let the process end. */
  constructor(readonly address: string) {
    const Client = eventService();
    this.client = new Client(address, grpc.credentials.createInsecure(), channelOptions);
  }

  /**
   * Waits until the processor has been reached, after however many attempts.
   * Whoever aborts the signal also closes the client, which ends the wait;
   * answers whether the processor has been reached.
   */
  async connected(signal: AbortSignal): Promise<boolean> {
    const channel = this.client.getChannel();
    while (!signal.aborted) {
      const state = channel.getConnectivityState(true);
      if (state === grpc.connectivityState.READY) {
        return true;
      }
      await new Promise((resolve) => channel.watchConnectivityState(state, Infinity, resolve));
    }
    return false;
  }

  /** Opens the stream of events. It goes on until it ends or is cancelled, even after close(). */
  events(start: number, end: number): grpc.ClientReadableStream<TokenTransferEvent> {
    return this.client.GetTTPEvents!({ start_ledger: start, end_ledger: end });
  }

  /** Ends the connection once no stream is open on it. */
  close(): void {
    this.client.close();
  }
}
