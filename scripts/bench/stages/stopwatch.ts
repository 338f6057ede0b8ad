/** CPU time of this process, on all its threads: garbage is collected on others. */
export class Stopwatch {
  #used = 0
  #since: number | undefined

  get seconds(): number {
    return this.#used / 1e6
  }

  start(): void {
    this.#since = now()
  }

  stop(): void {
    if (this.#since === undefined) return
    this.#used += now() - this.#since
    this.#since = undefined
  }

  /** Does something that does not count. */
  without<A>(f: () => A): A {
    const ran = this.#since !== undefined
    this.stop()
    const made = f()
    if (ran) this.start()
    return made
  }
}

const now = (): number => {
  const { user, system } = process.cpuUsage()
  return user + system
}
