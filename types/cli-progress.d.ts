// The part of cli-progress 3 that kith uses.
declare module 'cli-progress' {
  interface BarOptions {
    format?: string
    hideCursor?: boolean
    clearOnComplete?: boolean
    fps?: number
    etaBuffer?: number
    stream?: NodeJS.WritableStream
    barsize?: number
  }
  export class SingleBar {
    constructor(options: BarOptions)
    start(total: number, startValue: number, payload?: Record<string, unknown>): void
    setTotal(total: number): void
    update(value: number, payload?: Record<string, unknown>): void
    stop(): void
  }
  const cliProgress: { SingleBar: typeof SingleBar }
  export default cliProgress
}
