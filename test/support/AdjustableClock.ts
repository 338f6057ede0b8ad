/** The clock of a test, of which the time of day can be put forward and back; what never goes back is not touched. */
import { Clock, Effect } from "effect"

export const adjustable = Clock.clockWith((clock) =>
  Effect.sync(() => {
    const currentTimeMillisUnsafe = (): number => clock.currentTimeMillisUnsafe() + put.offset
    const currentTimeNanosUnsafe = (): bigint => BigInt(currentTimeMillisUnsafe()) * 1_000_000n
    const put: Clock.Clock & { offset: number } = {
      ...clock,
      offset: 0,
      currentTimeMillisUnsafe,
      currentTimeNanosUnsafe,
      currentTimeMillis: Effect.sync(currentTimeMillisUnsafe),
      currentTimeNanos: Effect.sync(currentTimeNanosUnsafe),
    }
    return put
  })
)
