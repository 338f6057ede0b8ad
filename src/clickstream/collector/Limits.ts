/** How much the collector takes on: events per write key and second, requests at a time, and what they hold in memory. */

/**
 * A token bucket per name: `rate` tokens per second, of which one second's worth may be saved up.
 *
 * A request of more events than a bucket can ever hold is let through when the bucket is full, and paid off afterwards: for
 * a minute at most, so that nobody who knows a key, which is public, can shut out its others for longer.
 */
export class Buckets {
  readonly #rate: number
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  /** Zero is no limit. */
  constructor(rate: number) {
    this.#rate = rate
  }

  /**
   * Takes `events` tokens at `now`, in milliseconds; answers 0, or the whole seconds to wait where nothing was taken. With 0
   * events it only asks.
   */
  take(name: string, events: number, now: number): number {
    if (this.#rate === 0) return 0
    let bucket = this.#buckets.get(name)
    if (bucket === undefined) this.#buckets.set(name, bucket = { tokens: this.#rate, at: now })
    const passed = Math.max(0, now - bucket.at) / 1000
    bucket.tokens = Math.min(this.#rate, bucket.tokens + passed * this.#rate)
    bucket.at = now
    const needed = Math.max(1, Math.min(events, this.#rate))
    if (bucket.tokens < needed) return Math.max(1, Math.ceil((needed - bucket.tokens) / this.#rate))
    bucket.tokens = Math.max(bucket.tokens - events, -60 * this.#rate)
    return 0
  }
}

/** Counts what is under way, up to a limit. */
export class Places {
  readonly #limit: number
  #taken = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Whether there was a place; each one taken must be given back. */
  take(): boolean {
    if (this.#taken >= this.#limit) return false
    this.#taken++
    return true
  }

  giveBack(): void {
    this.#taken--
  }
}

/** Bytes that requests hold, up to a limit for all of them together. */
export class Memory {
  readonly #limit: number
  #held = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** What one request holds: nothing at first. */
  share(): Share {
    let mine = 0
    return {
      hold: (bytes) => {
        const others = this.#held - mine
        if (bytes > mine && others > 0 && others + bytes > this.#limit) return false
        this.#held = others + bytes
        mine = bytes
        return true
      },
    }
  }
}

export interface Share {
  /**
   * Holds so many bytes from now on, instead of those before; or answers false, where the others leave no room for more. A
   * request that is alone always finds room.
   */
  hold(bytes: number): boolean
}
