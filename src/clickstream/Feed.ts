/** Sample traffic: an access log, over and over, as if its requests came now. */
import { Clock, Duration, Effect, Schedule } from "effect"
import { Producer } from "../index.ts"
import type { Line } from "./Lines.ts"
import { type Options, recordOf } from "./LogRecords.ts"

export interface FeedOptions extends Options {
  readonly lines: ReadonlyArray<Line>
  /** How long one loop through the lines takes. */
  readonly loop: Duration.Input
}

const tick = 100

/**
 * Sends the lines evenly, in their order, stamped with the time of sending; for ever. Ids carry the time of the start and
 * the number of the loop, so that every loop counts. What the brokers do not take is sent again: nothing is left out.
 */
export const run = Effect.fn("Feed.run")(function* (
  options: FeedOptions,
): Effect.fn.Return<never, never, Producer.Producer> {
  const { lines } = options
  const { send } = yield* Producer.Producer
  const length = Duration.toMillis(options.loop)
  const started = yield* Clock.currentTimeMillis
  for (let loop = 1, begun = started;; loop++, begun = yield* Clock.currentTimeMillis) {
    const ids = { loop: `${started.toString(36)}-${loop}` }
    for (let sent = 0; sent < lines.length;) {
      const now = yield* Clock.currentTimeMillis
      const due = Math.min(lines.length, Math.ceil(lines.length * Math.min(1, (now - begun + tick) / length)))
      if (due > sent) {
        const records = lines.slice(sent, due).map((line) => recordOf(options, line, now, ids))
        yield* Effect.orDie(Effect.retry(send(records), { schedule: patience, while: mayPass }))
        sent = due
      } else yield* Effect.sleep(tick)
    }
    const left = begun + length - (yield* Clock.currentTimeMillis)
    if (left > 0) yield* Effect.sleep(left)
  }
})

const mayPass = ({ reason }: Producer.ProducerError): boolean => reason === "Timeout" || reason === "BufferFull"

const patience = Schedule.spaced("1 second")
