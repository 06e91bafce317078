/**
 * Work that is done in rounds, one at a time, whenever something may have changed: asked for while a round runs, another follows it.
 * Nothing that is asked for is lost, however often and whenever.
 */
export class Rounds {
  private running = false
  private isWanted = false
  private stopped = false
  private idle: (() => void)[] = []

  /**
   * @param round does what is to be done now
   * @param failed told what a round threw; the next one that is asked for runs all the same
   */
  constructor(
    private readonly round: () => Promise<void>,
    private readonly failed: (error: unknown) => void,
  ) {}

  get isStopped(): boolean {
    return this.stopped
  }

  /** Cheap. A round begins at once, or when the one that runs is over. */
  wake(): void {
    this.isWanted = true
    if (this.running || this.stopped) return
    this.running = true
    void this.run()
  }

  /** No round begins any more. Resolves when none runs. */
  async stop(): Promise<void> {
    this.stopped = true
    await this.settled()
  }

  /** Until nothing is under way; what was asked for by then is done. */
  async settled(): Promise<void> {
    if (this.running) await new Promise<void>((resolve) => this.idle.push(resolve))
  }

  private async run(): Promise<void> {
    while (this.isWanted && !this.stopped) {
      this.isWanted = false
      try {
        await this.round()
      } catch (error) {
        this.failed(error)
      }
    }
    this.running = false
    for (const resolve of this.idle.splice(0)) resolve()
  }
}
