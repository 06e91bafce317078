// The part of protomux 3 that kith uses.
declare module 'protomux' {
  import type { EventEmitter } from 'node:events'

  export interface MuxStream extends EventEmitter {
    userData: unknown
    readonly destroyed: boolean
    alloc(length: number): Buffer
    write(bytes: Buffer): boolean
    end(): void
    pause(): void
    resume(): void
    destroy(error?: Error): void
  }

  export interface Message {
    /** As the channel's encoding takes it; without one, bytes. @returns false when the stream has enough for now */
    send(message: Buffer | readonly Buffer[]): boolean
  }

  /** Where a message lies: `start` moves on, `end` is that of the piece. */
  export interface State {
    buffer: Buffer
    start: number
    end: number
  }

  export interface MessageEncoding {
    /** Adds the length to `end`. */
    preencode(state: State, parts: readonly Buffer[]): void
    encode(state: State, parts: readonly Buffer[]): void
    decode(state: State): Buffer
  }

  export interface ChannelOptions {
    protocol: string
    id?: Buffer | null
    messages: { encoding?: MessageEncoding; onmessage(bytes: Buffer): void }[]
    onopen?(): void
    /** @param remote whether the other side closed it */
    onclose?(remote: boolean): void
    /** after a send() that said false: the stream takes more */
    ondrain?(): void
  }

  export interface Channel {
    readonly messages: Message[]
    readonly opened: boolean
    readonly closed: boolean
    open(): void
    close(): void
  }

  export default class Protomux {
    constructor(stream: MuxStream)
    readonly stream: MuxStream
    /** null when the stream is gone or such a channel is open already */
    createChannel(options: ChannelOptions): Channel | null
    pair(channel: { protocol: string; id?: Buffer | null }, notify: () => void | Promise<void>): void
    unpair(channel: { protocol: string; id?: Buffer | null }): void
    destroy(error?: Error): void
  }
}
