/** A clock for flows whose stages wait: who sleeps wakes at once, and finds that the time has passed. */
import { Clock, Duration, Effect, Stream } from "effect"
import { Flow } from "../../src/index.ts"

export class JumpingClock implements Clock.Clock {
  now: number
  constructor(now: number) {
    this.now = now
  }
  currentTimeMillisUnsafe = () => this.now
  currentTimeNanosUnsafe = () => BigInt(Math.round(this.now * 1e6))
  monotonicTimeNanosUnsafe = () => this.currentTimeNanosUnsafe()
  readonly currentTimeMillis = Effect.sync(this.currentTimeMillisUnsafe)
  readonly currentTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  readonly monotonicTimeNanos = Effect.sync(this.currentTimeNanosUnsafe)
  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.now += Duration.toMillis(duration)
      return Effect.yieldNow
    })
  }
}

/** A flow by another clock. */
export const by = (clock: Clock.Clock) => <A, F, E, R>(flow: Flow.Flow<A, F, E, R>): Flow.Flow<A, F, E, R> =>
  Flow.fromStream(Stream.provideService(flow, Clock.Clock, clock), flow.node)
