// The part of hyperdht 6 that kith uses (with what it takes over from dht-rpc and @hyperswarm/secret-stream).
declare module 'hyperdht' {
  import type { Duplex } from 'node:stream'
  import type { EventEmitter } from 'node:events'

  export interface DhtAddress {
    host: string
    port: number
  }

  export interface DhtKeyPair {
    publicKey: Buffer
    secretKey: Buffer
  }

  /** A Noise stream: what is written in one piece arrives in one piece. Up to 16 MiB - 1 a piece. */
  export interface NoiseStream extends Duplex {
    readonly publicKey: Buffer
    readonly remotePublicKey: Buffer
    /** 64 bytes, the same on both sides, different for every session */
    readonly handshakeHash: Buffer
    readonly isInitiator: boolean
    /** `rtt`: smoothed time of a round trip, ms; `bytesReceived`: of all packets that came, acknowledgements included */
    readonly rawStream: {
      readonly bytesReceived: number
      readonly remoteHost: string
      readonly remotePort: number
      readonly rtt: number
    } | null
    /** Resolves when the session stands (true) or cannot (false). */
    readonly opened: Promise<boolean>
    /** bytes of the frames that came in and decrypted, empty ones included */
    readonly rawBytesRead: number
    readonly destroying: boolean
    /** Memory for the next piece to be written, which is then not copied. */
    alloc(length: number): Buffer
    /** Sends an empty frame, which the other side does not see but counts. */
    sendKeepAlive(): void
    setKeepAlive(ms: number): void
    userData: unknown
  }

  export interface LookupReply {
    from: DhtAddress
    peers: { publicKey: Buffer; relayAddresses: DhtAddress[] }[]
  }

  export interface Query extends AsyncIterable<LookupReply> {
    /** DHT nodes near the target that answered, complete when the query is over */
    readonly closestReplies: readonly unknown[]
    finished(): Promise<void>
    destroy(): void
  }

  /** The answering side of a handshake. `recv` throws when the first message does not prove the key that it names. */
  export interface Handshake {
    recv(message: Uint8Array): unknown
    /** `rs`: the key that the other side named, once it was read */
    readonly handshake: { readonly rs: Uint8Array | null }
  }

  export interface Server extends EventEmitter {
    /** Called at each knock; an option of createServer, which may be replaced. */
    createHandshake: (...of: unknown[]) => Handshake
    listen(keyPair: DhtKeyPair): Promise<Server>
    close(): Promise<void>
    refresh(): void
    readonly relayAddresses: DhtAddress[]
  }

  export interface ServerOptions {
    /** true refuses. Called with the initiator's proven key before a session stands. */
    firewall?(
      remotePublicKey: Buffer,
      payload: unknown,
      address: DhtAddress | null,
    ): boolean | Promise<boolean>
  }

  export interface DhtOptions {
    bootstrap?: string[]
    /** known nodes, beside the bootstrap ones */
    nodes?: DhtAddress[]
    keyPair?: DhtKeyPair
    host?: string
    port?: number
    anyPort?: boolean
    ephemeral?: boolean
    firewalled?: boolean
    connectionKeepAlive?: number
  }

  export default class HyperDHT extends EventEmitter {
    constructor(options?: DhtOptions)
    static bootstrapper(port: number, host: string, options?: DhtOptions): HyperDHT
    connect(publicKey: Buffer, options?: { keyPair?: DhtKeyPair; relayAddresses?: DhtAddress[] }): NoiseStream
    createServer(options: ServerOptions, onconnection: (stream: NoiseStream) => void): Server
    lookup(topic: Buffer): Query
    announce(topic: Buffer, keyPair: DhtKeyPair, relayAddresses?: DhtAddress[]): Query
    unannounce(topic: Buffer, keyPair: DhtKeyPair): Promise<void>
    fullyBootstrapped(): Promise<void>
    bind(): Promise<void>
    address(): { host: string; port: number } | null
    localAddress(): DhtAddress | null
    toArray(options?: { limit?: number }): DhtAddress[]
    destroy(options?: { force?: boolean }): Promise<void>
    readonly destroyed: boolean
    readonly bootstrapped: boolean
    /** false after requests to nodes went unanswered for some ticks of 5 s */
    readonly online: boolean
    readonly io: { readonly serverSocket: { address(): { host: string; port: number } } | null }
  }
}
