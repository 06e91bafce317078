/**
 * Has what a restore wrote go to the disk while it goes on, so that little is left to wait for at its end. One such sync runs
 * at a time, and nobody waits for it but the end.
 */
export const writtenOutBytes = 128 * 1024 * 1024

export class WriteOut {
  #bytes = 0
  #running: Promise<void> | undefined
  #failures: unknown[] = []

  /** @param sync writes out everything that was written before it was called */
  constructor(private readonly sync: () => Promise<void>) {}

  /** So many bytes more are written. */
  wrote(bytes: number): void {
    this.#bytes += bytes
    if (this.#running || this.#bytes < writtenOutBytes) return
    this.#bytes = 0
    this.#running = this.#begin()
  }

  /** Nothing runs any more when this resolves. */
  async idle(): Promise<void> {
    await this.#running
  }

  /** Everything is on the disk when this resolves. @throws what a sync failed with, the first of all: the kernel tells it only once */
  async end(): Promise<void> {
    await this.#running
    if (this.#failures.length > 0) throw this.#failures[0]
    await this.sync()
  }

  async #begin(): Promise<void> {
    try {
      await this.sync()
    } catch (error) {
      this.#failures.push(error)
    }
    this.#running = undefined
  }
}
