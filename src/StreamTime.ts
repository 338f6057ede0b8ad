/** Stream time: the highest event time seen, per task that wrote the input. */

/** How long a task that writes a repartition topic may be silent before it stops holding the clock back. */
const idleAfter = 60_000

/**
 * How much of a time in which nobody writes counts as everybody's silence: after an outage, or a quiet night, those that
 * speak again a moment later than the first are waited for.
 */
const longestPause = 20_000

/** What a writer was last heard to say: its stream time, and when that arrived. */
export interface Heard {
  readonly time: number
  readonly arrival: number
}

/** The clock of an input between two of its records. It is committed with the input's position and comes back with it. */
export interface Clock {
  readonly now: number
  /** The arrival from which writers that are unheard of are waited for; `Infinity` before the first record. */
  readonly since: number
  /** By name; empty for an input that has one writer. */
  readonly writers: ReadonlyMap<string, Heard>
}

/** The clock of an input of which nothing was read. */
export const unheard: Clock = { now: -Infinity, since: Infinity, writers: new Map() }

/**
 * The stream time of one input. With one writer it is the highest event time so far; with several, the lowest among
 * their own clocks, leaving out those that have written nothing for a minute of arrival time, of which a time in which
 * nobody wrote counts for 20 seconds at most. It never goes back, and it depends on the log alone: not on where batches
 * are cut, nor on when they are read; unless it goes on with the wall clock.
 */
export class StreamTime {
  readonly #writers: Map<string, { time: number; arrival: number }>
  #since: number
  /** One that holds stream time back, as far as is known: while it does the others need not be asked. */
  #slowest: Heard | undefined
  /** The latest arrival. */
  #last: number
  now: number

  constructor({ now, since, writers }: Clock = unheard) {
    this.now = now
    this.#since = since
    this.#writers = new Map(Array.from(writers, ([writer, heard]) => [writer, { ...heard }]))
    this.#last = since < Infinity ? since : -Infinity
    for (const { arrival } of this.#writers.values()) if (arrival > this.#last) this.#last = arrival
  }

  get clock(): Clock {
    const writers = new Map(Array.from(this.#writers, ([writer, heard]) => [writer, { ...heard }]))
    return { now: this.now, since: this.#since, writers }
  }

  /** Stream time after a record that `writer` (of `writers`) wrote at its own stream time `time`. */
  advance(writer: string, time: number, arrival: number, writers: number): number {
    if (writers === 1) {
      if (time > this.now) this.now = time
      return this.now
    }
    this.hear(writer, time, arrival)
    const since = arrival - idleAfter
    if (this.#writers.size < writers && this.#since > since) return this.now
    let slowest = this.#slowest
    if (slowest !== undefined && slowest.time <= this.now && slowest.arrival > since) return this.now
    slowest = undefined
    for (const heard of this.#writers.values()) {
      if (heard.arrival > since && heard.time < (slowest?.time ?? Infinity)) slowest = heard
    }
    this.#slowest = slowest
    if (slowest !== undefined && slowest.time > this.now) this.now = slowest.time
    return this.now
  }

  /** Stream time goes on by so many milliseconds without a record: by the wall clock, while an input is silent. */
  goOn(by: number): void {
    this.now += by
  }

  /** Notes what a writer said, without moving stream time. */
  hear(writer: string, time: number, arrival: number): void {
    this.#pause(arrival - this.#last - longestPause)
    if (arrival > this.#last) this.#last = arrival
    this.#since = Math.min(this.#since, arrival)
    const known = this.#writers.get(writer)
    if (known === undefined) this.#writers.set(writer, { time, arrival })
    else {
      known.time = Math.max(known.time, time)
      known.arrival = Math.max(known.arrival, arrival)
    }
  }

  /** Nobody has written for so much longer than counts. */
  #pause(longer: number): void {
    if (!(longer > 0 && longer < Infinity)) return
    this.#since += longer
    for (const heard of this.#writers.values()) heard.arrival += longer
  }
}

/**
 * A clock as text of at most `room` characters. Where the writers do not fit (about 20 characters each) they are left
 * out: stream time then stands still until all of them are heard again, or for a minute of arrival time, so that records
 * that would have been late may still count, and none is late that would not have been.
 */
export const encodeClock = ({ now, since, writers }: Clock, room: number): string => {
  const heard = Array.from(writers, ([writer, { time, arrival }]) => `${writer},${short(time)},${short(arrival)}`)
  const whole = [short(now), ...since === Infinity ? [] : [short(since)], ...heard].join(";")
  if (whole.length <= room) return whole
  const latest = Math.max(...Array.from(writers.values(), ({ arrival }) => arrival))
  return `${short(now)};${short(latest)}`
}

export const decodeClock = (encoded: string): Clock => {
  const [now, since, ...heard] = encoded.split(";")
  return {
    now: long(now!),
    since: since === undefined ? Infinity : long(since),
    writers: new Map(heard.map((one) => {
      const [writer, time, arrival] = one.split(",")
      return [writer!, { time: long(time!), arrival: long(arrival!) }]
    })),
  }
}

const short = (time: number): string => Number.isSafeInteger(time) ? time.toString(36) : `=${time}`

const long = (time: string): number => time.startsWith("=") ? Number(time.slice(1)) : parseInt(time, 36)
