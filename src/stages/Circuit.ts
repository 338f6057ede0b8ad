/** Whether a dependency is called: closed while it answers, open while it does not, half-open to find out. */
import type { Duration } from "effect"
import { millis } from "../Pace.ts"

export interface Policy {
  /** The circuit opens with that many failures that count, */
  readonly failures: number
  /** within that time (told in tenths of it), */
  readonly within: Duration.Input
  /** where they are at least that share of all calls, from 0 (the default) to 1. */
  readonly share?: number
  /** How long it stays open at least before it is tried again: up to a fifth longer, so that many do not try at one moment. */
  readonly wait: Duration.Input
  /** How many calls try it again, all of which must be answered to close it: 1 unless given. */
  readonly probes?: number
}

/** A call that may be made. */
export interface Admission {
  readonly generation: number
  readonly isProbe: boolean
}

export type State = "closed" | "half-open" | "open"

/** Times are milliseconds of a clock that never goes back. Outcomes of calls from before the latest change do not count. */
export class Circuit {
  readonly #failures: number
  readonly #share: number
  readonly #wait: number
  readonly #probes: number
  readonly #recent: Recent
  readonly #lot: () => number
  #state: State = "closed"
  #generation = 0
  #openUntil = 0
  #probing = 0
  #answered = 0

  /**
   * Throws a `RangeError` where the policy makes no sense. `what` names the stage in it. `lot` draws how much longer than
   * `wait` the circuit stays open, from 0 to 1: not at all unless given.
   */
  constructor({ failures, within, share = 0, wait, probes = 1 }: Policy, what: string, lot: () => number = () => 0) {
    for (const [name, count] of Object.entries({ failures, probes })) {
      if (Number.isSafeInteger(count) && count >= 1) continue
      throw new RangeError(`${what}: ${name} is a whole number of at least 1, not ${count}`)
    }
    if (!(share >= 0 && share <= 1)) throw new RangeError(`${what}: share is from 0 to 1, not ${share}`)
    this.#failures = failures
    this.#share = share
    this.#wait = millis(wait, `${what}: wait`)
    this.#probes = probes
    this.#lot = lot
    this.#recent = new Recent(millis(within, `${what}: within`))
  }

  get state(): State {
    return this.#state
  }

  /** Until when it is open, and not even tried. */
  get openUntil(): number {
    return this.#openUntil
  }

  /** A call that may be made now; none while the circuit is open, or as many try it again as may. */
  admit(now: number): Admission | undefined {
    if (this.#state === "open" && now >= this.#openUntil) {
      this.#become("half-open")
      this.#probing = 0
      this.#answered = 0
    }
    if (this.#state === "closed") return { generation: this.#generation, isProbe: false }
    if (this.#state === "open" || this.#probing + this.#answered >= this.#probes) return undefined
    this.#probing++
    return { generation: this.#generation, isProbe: true }
  }

  /** What an admitted call, or several at once, came to. None and none: nothing that would tell. */
  settle(admission: Admission, answered: number, failed: number, now: number): void {
    if (admission.generation !== this.#generation) return
    if (admission.isProbe) {
      this.#probing--
      if (failed > 0) this.#open(now)
      else if (answered > 0 && ++this.#answered === this.#probes) this.#become("closed")
      return
    }
    this.#recent.add(now, answered, failed)
    const { calls, failures } = this.#recent
    if (failed > 0 && failures >= this.#failures && failures >= this.#share * calls) this.#open(now)
  }

  #open(now: number): void {
    this.#become("open")
    this.#openUntil = now + this.#wait * (1 + this.#lot() * spread)
    this.#recent.clear()
  }

  #become(state: State): void {
    this.#state = state
    this.#generation++
  }
}

/** The share of `wait` that a circuit may stay open longer. */
const spread = 0.2

const slices = 10

/** Calls and failures of the last while, in slices that are forgotten one by one. */
class Recent {
  readonly #slice: number
  readonly #calls = new Float64Array(slices)
  readonly #failures = new Float64Array(slices)
  #last = 0
  calls = 0
  failures = 0

  constructor(within: number) {
    this.#slice = within / slices
  }

  add(now: number, answered: number, failed: number): void {
    const slice = Math.floor(now / this.#slice)
    if (slice - this.#last >= slices) this.clear()
    else for (let old = this.#last + 1; old <= slice; old++) this.#forget(old % slices)
    this.#last = slice
    const at = slice % slices
    this.#calls[at]! += answered + failed
    this.#failures[at]! += failed
    this.calls += answered + failed
    this.failures += failed
  }

  clear(): void {
    this.#calls.fill(0)
    this.#failures.fill(0)
    this.calls = 0
    this.failures = 0
  }

  #forget(at: number): void {
    this.calls -= this.#calls[at]!
    this.failures -= this.#failures[at]!
    this.#calls[at] = 0
    this.#failures[at] = 0
  }
}
