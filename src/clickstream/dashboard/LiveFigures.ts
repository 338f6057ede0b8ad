/** The figures as they change, read once for all who watch, and not at all while nobody does. */
import { Clock, Context, Effect, Latch, Layer, PubSub, Stream } from "effect"
import type { Kafka, Postgres, Task } from "../../index.ts"
import * as Figures from "./Figures.ts"

/** What a viewer is told, by name as in server-sent events. */
export type Event =
  | { readonly name: "current"; readonly data: Figures.Current }
  | { readonly name: "slow"; readonly data: Figures.Slow }
  /** The tables cannot be read since then. */
  | { readonly name: "trouble"; readonly data: { readonly since: number } }

export class LiveFigures extends Context.Service<LiveFigures, {
  /** What is known now, and then every change. A viewer that reads too slowly misses the older ones. */
  readonly events: Stream.Stream<Event>
  readonly viewers: Effect.Effect<number>
}>()("millrace/clickstream/dashboard/LiveFigures") {}

/** The slow figures are read at every so many readings of the current ones. */
const slowEvery = 5

export const layer = (
  prefix: string,
): Layer.Layer<LiveFigures, never, Postgres.Postgres | Kafka.Cluster> =>
  Layer.effect(
    LiveFigures,
    Effect.gen(function* () {
      const changes = yield* PubSub.sliding<Event>(8)
      const watched = Latch.makeUnsafe()
      const latest = new Map<Event["name"], Event>()
      let viewers = 0
      let round = 0
      let troubledSince: number | undefined

      const tell = (event: Event) => {
        latest.set(event.name, event)
        return PubSub.publish(changes, event)
      }

      const read = Effect.gen(function* () {
        yield* tell({ name: "current", data: yield* Figures.current(prefix) })
        if (round++ % slowEvery === 0) yield* tell({ name: "slow", data: yield* Figures.slow(prefix) })
        if (troubledSince !== undefined) yield* Effect.logInfo("the tables can be read again")
        troubledSince = undefined
        latest.delete("trouble")
      })

      const troubled = Effect.fnUntraced(function* (error: Task.PipelineError) {
        if (troubledSince === undefined) {
          troubledSince = yield* Clock.currentTimeMillis
          yield* Effect.logWarning("the dashboard's figures cannot be read; trying again every second", error)
        }
        yield* tell({ name: "trouble", data: { since: troubledSince } })
      })

      yield* Effect.forkScoped(Effect.forever(
        watched.await.pipe(
          Effect.andThen(Effect.catch(read, troubled)),
          Effect.andThen(Effect.sleep("1 second")),
        ),
      ))

      const enter = Effect.acquireRelease(
        Effect.sync(() => {
          if (viewers++ > 0) return
          latest.clear()
          round = 0
          Latch.openUnsafe(watched)
        }),
        () => Effect.sync(() => --viewers === 0 && Latch.closeUnsafe(watched)),
      )

      return LiveFigures.of({
        events: Stream.unwrap(Effect.gen(function* () {
          const subscription = yield* PubSub.subscribe(changes)
          yield* enter
          return Stream.concat(Stream.fromIterable([...latest.values()]), Stream.fromSubscription(subscription))
        })),
        viewers: Effect.sync(() => viewers),
      })
    }),
  )
