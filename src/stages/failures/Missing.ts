/** Records that should wait in retry topics and are not there: deleted by age while nobody has read the topics. */
import { Clock, Effect, Metric } from "effect"
import { Task } from "../../Task.ts"
import type { Parking } from "./Parking.ts"
import type { Order, RetryTopics } from "../Retry.ts"
import type { Written } from "./RetryRecord.ts"

/** Records that a stage had sent to retry topics and that were deleted there before they came back, by stage. */
export const missedRecords = Metric.counter("millrace_retries_missed_total", {
  description: "Records that were deleted from retry topics before a stage could try them again, by stage",
  incremental: true,
})

/** How long a topic must have had nothing more before what has not come is missing, in milliseconds. */
const surelyAfter = 1_000

/** Asked with every batch: as long as a topic was not read to its end, what waits in it may come. */
export class Missing<A> {
  readonly #name: string
  readonly #parking: Parking
  readonly #sets: ReadonlyArray<RetryTopics<A, Order>>
  readonly #task: Task["Service"]
  readonly #clock: Clock.Clock
  /** Since when topics have had nothing more. */
  readonly #dry = new Map<string, number>()

  private constructor(
    name: string,
    parking: Parking,
    sets: ReadonlyArray<RetryTopics<A, Order>>,
    task: Task["Service"],
    clock: Clock.Clock,
  ) {
    this.#name = name
    this.#parking = parking
    this.#sets = sets
    this.#task = task
    this.#clock = clock
  }

  static readonly make = Effect.fnUntraced(function* <A>(
    name: string,
    parking: Parking,
    sets: ReadonlyArray<RetryTopics<A, Order>>,
  ): Effect.fn.Return<Missing<A>, never, Task> {
    return new Missing(name, parking, sets, yield* Task, yield* Clock.clockWith(Effect.succeed))
  })

  /** The topics that have nothing more, and of which records are missing, if any are. */
  get topics(): ReadonlyArray<string> {
    const now = this.#clock.currentTimeMillisUnsafe()
    return Array.from(this.#parking.unread).filter((name) => {
      const topic = this.#sets.flatMap(({ topics }) => topics).find((topic) => topic.name === name)
      if (topic !== undefined && !this.#task.isDry(topic)) {
        this.#dry.delete(name)
        return false
      }
      const since = this.#dry.get(name)
      if (since === undefined) this.#dry.set(name, now)
      return since !== undefined && now - since >= surelyAfter
    })
  }

  /** The records that waited behind those that are missing. */
  readonly released: Effect.Effect<ReadonlyArray<Written>> = Effect.suspend(() => {
    const released: Array<Written> = []
    let missed = 0
    for (const topic of this.topics) {
      const { gone, released: next } = this.#parking.missed(topic)
      missed += gone
      released.push(...next)
    }
    if (missed === 0) return Effect.succeed(released)
    const message =
      `stage ${this.#name}: ${missed} records that waited in its retry topics are gone from them, and are ` +
      "lost: they were deleted by age while nobody has read the topics. Those behind them go on; keep retry topics for longer"
    return Effect.logError(message).pipe(
      Effect.andThen(Metric.update(Metric.withAttributes(missedRecords, { stage: this.#name }), missed)),
      Effect.as(released),
    )
  })
}
