/** The figures as they change, read once for all who watch, and not at all while nobody does. */
import { Cause, Clock, Context, Duration, Effect, Latch, Layer, PubSub, Stream } from "effect"
import type { Kafka, Postgres } from "../../index.ts"
import * as Figures from "./Figures.ts"
import * as Lag from "./Lag.ts"
import * as Rate from "./Rate.ts"

/** What a viewer is told, by name as in server-sent events. */
export type Event =
  | { readonly name: "current"; readonly data: Current }
  | { readonly name: "slow"; readonly data: Figures.Slow }
  /** Since when something cannot be read; null when all can again. */
  | { readonly name: "trouble"; readonly data: { readonly since: number | null } }

export interface Current extends Figures.Current {
  /** Clicks stored per second, of late; null until it is known. */
  readonly rate: number | null
}

export interface Options {
  /** The silence that ends a session: 30 minutes by default, and the processors' own setting otherwise. */
  readonly sessionGap?: Duration.Input
}

export class LiveFigures extends Context.Service<LiveFigures, {
  /** What is known now, and then every change. A viewer that reads too slowly misses the older ones. */
  readonly events: Stream.Stream<Event>
  readonly viewers: Effect.Effect<number>
}>()("millrace/clickstream/dashboard/LiveFigures") {}

/** After this long a reading counts as failed. */
const patience = "10 seconds"

/** The slow figures are read at every so many readings of the current ones. */
const slowEvery = 5

export const layer = (
  prefix: string,
  { sessionGap = "30 minutes" }: Options = {},
): Layer.Layer<LiveFigures, never, Postgres.Postgres | Kafka.Cluster> =>
  Layer.effect(
    LiveFigures,
    Effect.gen(function* () {
      const options = { prefix, sessionGap: Duration.fromInputUnsafe(sessionGap) }
      const rate = Rate.make()
      const watchLag = Lag.watch()
      const changes = yield* PubSub.sliding<Event>(8)
      const watched = Latch.makeUnsafe()
      const latest = new Map<Event["name"], Event>()
      let viewers = 0
      let round = 0
      const troubles = new Map<string, number>()

      const tell = (event: Event) => {
        latest.set(event.name, event)
        return PubSub.publish(changes, event)
      }

      /** A failure is told once, and taken back when the same reading succeeds again. */
      const reading = <A, E, R>(name: string, read: Effect.Effect<A, E, R>) =>
        Effect.matchCauseEffect(Effect.timeout(read, patience), {
          onSuccess: () =>
            Effect.suspend(() => {
              if (!troubles.delete(name)) return Effect.void
              return Effect.andThen(
                Effect.logInfo(`the dashboard's ${name} figures can be read again`),
                tell({ name: "trouble", data: { since: oldest(troubles) } }),
              )
            }),
          onFailure: (cause) =>
            Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : Effect.gen(function* () {
              if (!troubles.has(name)) {
                troubles.set(name, yield* Clock.currentTimeMillis)
                yield* Effect.logWarning(
                  `the dashboard's ${name} figures cannot be read; trying again every second`,
                  cause,
                )
              }
              yield* tell({ name: "trouble", data: { since: oldest(troubles) } })
            }),
        })

      const current = reading(
        "current",
        Effect.flatMap(
          Figures.current(options),
          (data) => tell({ name: "current", data: { ...data, rate: rate(data.at, data.stored) } }),
        ),
      )
      const slow = reading(
        "slow",
        Effect.flatMap(
          Figures.slow(options),
          (data) => tell({ name: "slow", data: { ...data, lag: data.lag && watchLag(data.at, data.lag) } }),
        ),
      )

      yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
        yield* watched.await
        yield* current
        if (round++ % slowEvery === 0 || troubles.has("slow")) yield* slow
        yield* Effect.sleep("1 second")
      })))

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

const oldest = (troubles: ReadonlyMap<string, number>): number | null =>
  troubles.size === 0 ? null : Math.min(...troubles.values())
