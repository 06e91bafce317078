/** The progress bar of long jobs, on stderr. cli-progress is loaded when the first note comes. */
import type { SingleBar } from 'cli-progress'
import type { ProgressNote } from '../daemon/api.js'
import { size } from './output.js'

export class Progress {
  readonly #visible: boolean
  #latest: ProgressNote | undefined
  #bar: SingleBar | undefined
  #loading = false
  #ended = false

  constructor(visible: boolean) {
    this.#visible = visible
  }

  show(note: ProgressNote): void {
    if (!this.#visible || this.#ended) return
    this.#latest = note
    if (this.#bar) this.#draw(this.#bar, note)
    else if (!this.#loading) {
      this.#loading = true
      void this.#load()
    }
  }

  end(): void {
    this.#ended = true
    this.#bar?.stop()
  }

  async #load(): Promise<void> {
    const { default: cliProgress } = await import('cli-progress')
    if (this.#ended || !this.#latest) return
    this.#bar = new cliProgress.SingleBar({
      format: '{stage} [{bar}] {amount}',
      barsize: 30,
      hideCursor: true,
      clearOnComplete: true,
      stream: process.stderr,
    })
    this.#bar.start(1, 0, { stage: '', amount: '' })
    this.#draw(this.#bar, this.#latest)
  }

  #draw(bar: SingleBar, { stage, done, total, unit }: ProgressNote): void {
    const show = unit === 'bytes' ? size : (n: number) => `${n} ${unit}`
    bar.setTotal(Math.max(total, done, 1))
    bar.update(done, { stage, amount: total > 0 ? `${show(done)} of ${show(total)}` : show(done) })
  }
}
