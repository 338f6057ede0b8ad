/** The clock of one program: its wall clock may jump, and while the program is frozen nothing in it wakes. */
import { Clock, Duration, Effect } from "effect"

export class ProgramClock implements Clock.Clock {
  readonly #clock: Clock.Clock
  #ahead = 0
  #frozenUntil = -Infinity

  constructor(clock: Clock.Clock) {
    this.#clock = clock
  }

  currentTimeMillisUnsafe = () => this.#clock.currentTimeMillisUnsafe() + this.#ahead
  currentTimeNanosUnsafe = () => BigInt(this.currentTimeMillisUnsafe()) * 1_000_000n
  monotonicTimeNanosUnsafe = () => this.#clock.monotonicTimeNanosUnsafe()
  readonly currentTimeMillis = Effect.sync(this.currentTimeMillisUnsafe)
  readonly currentTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  readonly monotonicTimeNanos = Effect.sync(this.monotonicTimeNanosUnsafe)

  /** Moves the wall clock; what sleeps is not woken by it, and wakes no later. */
  jump(millis: number): void {
    this.#ahead += millis
  }

  freeze(millis: number): void {
    this.#frozenUntil = Math.max(this.#frozenUntil, this.#clock.currentTimeMillisUnsafe() + millis)
  }

  get isFrozen(): boolean {
    return this.frozenFor > 0
  }

  get frozenFor(): number {
    return Math.max(0, this.#frozenUntil - this.#clock.currentTimeMillisUnsafe())
  }

  /** Waits for as long as the program is frozen. */
  readonly thawed: Effect.Effect<void> = Effect.suspend(() =>
    this.#frozenUntil === Infinity
      ? Effect.never
      : this.isFrozen
      ? this.#clock.sleep(Duration.millis(this.frozenFor))
      : Effect.void
  )

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const whole = Duration.millis(Math.ceil(Duration.toMillis(duration)))
    return Effect.andThen(this.#clock.sleep(whole), Effect.suspend(() => this.isFrozen ? this.thawed : Effect.void))
  }
}
