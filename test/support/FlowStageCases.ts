/** Effects, branches by tag, and stages that slow down or leave out, in flows for the laws. */
import { Duration, Effect, Redacted, Result, Schema } from "effect"
import {
  Aggregate,
  Branch,
  CircuitBreaker,
  Deliver,
  Flow,
  Mask,
  Personal,
  Sample,
  Shed,
  Throttle,
  Topic,
  Window,
} from "../../src/index.ts"
import * as Sessions from "../../src/clickstream/Sessions.ts"
import { by, JumpingClock } from "./JumpingClock.ts"
import { type Case, common, decoded, Odd, odd, Reading, refuseOdd, Results, Sums, twice } from "./StageCases.ts"

class Down extends Schema.TaggedError<Down>()("Down", { message: Schema.String }) {}

/** Takes longer for some than for others, so that effects that run at the same time end in another order. */
const slowly = <A>(reading: Reading, answer: A) =>
  Effect.as(Effect.forEach(Array.from({ length: reading.n }), () => Effect.yieldNow), answer)

const orOdd = (reading: Reading) =>
  Effect.flatMap(
    slowly(reading, reading.n),
    (n) => odd(reading) ? Effect.fail(new Odd({ message: "odd" })) : Effect.succeed(n),
  )

const jumping = () => by(new JumpingClock(0))

/** Behind by up to five minutes, as records arrive from 200 minutes on. */
const behind = by(new JumpingClock(Duration.toMillis("205 minutes")))

const tagged = Flow.map((reading: Reading) => ({ ...reading, kind: (["a", "b", "c"] as const)[reading.n % 3]! }))
const clicks = Flow.map(({ id, at }: Reading) => ({ eventId: id, eventTime: at, path: `/${id}` }))
const sessions = Sessions.by({ name: "sessions", gap: "30 seconds", grace: "30 seconds" })

const finals = Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }), emit: "final" })

const Elsewhere = Topic.make({
  ...common,
  name: "elsewhere",
  schema: Schema.Struct({ id: Schema.String, n: Schema.Int.check(Schema.isLessThan(7)) }),
  key: ["id", ({ id }) => id],
})

const Marked = Schema.Struct({
  ...Reading.fields,
  id: Personal.mark(Schema.String),
  at: Personal.mark(Schema.Int, { policy: Mask.replace(0) }),
})
const key = { id: "k1", secret: Redacted.make("0123456789abcdef") }

/** Does not answer at the first call for a record. */
const flaky = () => {
  const asked = new Set<number>()
  return (reading: Reading, { offset }: { readonly offset: number }): Effect.Effect<number, Odd | Down> => {
    if (reading.n < 7 || asked.has(offset)) return orOdd(reading)
    asked.add(offset)
    return Effect.fail(new Down({ message: "down" }))
  }
}

const circuit = { name: "test", failures: 2, within: "1 minute", wait: "5 seconds" } as const

export const cases: ReadonlyArray<Case> = [
  { name: "effect, by key", flow: decoded.pipe(Flow.effect(orOdd, { concurrency: 3 })) },
  { name: "effect, in no order", flow: decoded.pipe(Flow.effect(orOdd, { concurrency: "unbounded", order: "none" })) },
  { name: "effect after flatMap", flow: decoded.pipe(twice, Flow.effect(orOdd, { concurrency: 3 })), fansOut: true },
  {
    name: "effect at a rate, with a time-out",
    flow: decoded.pipe(Flow.effect(orOdd, { concurrency: 3, timeout: "1 hour", rate: { perSecond: 3 } }), jumping()),
  },
  {
    name: "effectAll",
    flow: decoded.pipe(
      Flow.effectAll(
        (readings) =>
          Effect.as(
            slowly(readings[0], 0),
            readings.map((reading) =>
              odd(reading) ? Result.fail(new Odd({ message: "odd" })) : Result.succeed(reading.n)
            ),
          ),
        { size: 3, concurrency: 2 },
      ),
    ),
  },
  { name: "tap", flow: decoded.pipe(Flow.tap(() => {})) },
  { name: "tapEffect", flow: decoded.pipe(Flow.tapEffect(orOdd, { concurrency: 2 })) },
  { name: "tapEffect that fails records", flow: decoded.pipe(Flow.tapEffect(orOdd, { failures: "fail" })) },
  {
    name: "match",
    flow: decoded.pipe(
      tagged,
      Branch.match("kind", {
        a: (flow) => flow.pipe(Flow.map((reading) => reading.n)),
        b: (flow) => flow.pipe(Deliver.to(Results), refuseOdd),
        c: (flow) => flow.pipe(Flow.filter((reading) => reading.n > 2)),
      }),
    ),
  },
  {
    name: "match after flatMap, the rest in sessions",
    flow: decoded.pipe(
      twice,
      tagged,
      Branch.match("kind", { a: (flow) => flow.pipe(refuseOdd) }, (rest) => rest.pipe(clicks, sessions)),
    ),
    fansOut: true,
  },
  {
    name: "matchBy",
    flow: decoded.pipe(
      Branch.matchBy((_, { key }) => key === null ? "keyless" : "keyed", {
        keyless: (flow) => flow.pipe(refuseOdd),
        keyed: (flow) =>
          flow.pipe(
            Branch.matchBy((reading) => reading.id, { "ann-1": (flow) => flow.pipe(refuseOdd) }, (rest) => rest),
          ),
      }),
    ),
  },
  {
    name: "deliver to one of several topics",
    flow: decoded.pipe(
      Deliver.route({
        topics: [Results, Elsewhere, Sums],
        to: (reading) => reading.n < 3 ? Results : reading.n < 8 ? "elsewhere" : "nowhere",
      }),
    ),
  },
  {
    name: "deliver what is made to one of several topics, after flatMap",
    flow: decoded.pipe(
      twice,
      Deliver.route({
        topics: [Results, Sums],
        to: (reading) => reading.n < 7 ? "sums" : "results",
        of: ({ id, n }) => n < 4 ? { key: id, value: n } : { id, n },
      }),
    ),
    fansOut: true,
  },
  { name: "sample", flow: decoded.pipe(Sample.by({ rate: 0.5 })) },
  { name: "sample by key", flow: decoded.pipe(Sample.by({ rate: 0.5, key: (reading) => reading.id })) },
  { name: "sample after flatMap", flow: decoded.pipe(twice, Sample.by({ rate: 0.5, key: String })), fansOut: true },
  { name: "shed", flow: decoded.pipe(Shed.by({ above: "2 minutes", below: "2 minutes", rate: 0.3 }), behind) },
  {
    name: "shed with failures, the important kept",
    flow: decoded.pipe(
      Deliver.to(Results),
      Shed.by({ above: "2 minutes", below: "2 minutes", keep: odd, excess: "fail" }),
      behind,
    ),
  },
  {
    name: "sample of window finals, by key",
    flow: decoded.pipe(finals, Sample.by({ rate: 0.5, key: ({ key }) => key })),
    fansOut: true,
  },
  {
    name: "effects and a throttle of window finals",
    flow: decoded.pipe(
      finals,
      Throttle.by({ perSecond: 2, key: ({ key }) => key }),
      Flow.effect(({ value }) => Effect.as(Effect.yieldNow, value), { concurrency: 2 }),
      jumping(),
    ),
    fansOut: true,
  },
  { name: "throttle", flow: decoded.pipe(Throttle.by({ perSecond: 3, burst: 2 }), jumping()) },
  {
    name: "throttle by key",
    flow: decoded.pipe(Throttle.by({ perSecond: 0.5, key: (_, { key }) => key ?? "", atMostKeys: 2 }), jumping()),
  },
  {
    name: "throttle that drops what it never has to",
    flow: decoded.pipe(Throttle.by({ perSecond: 100, excess: "drop" })),
  },
  {
    name: "throttle that fails what comes again",
    // One record of an offset comes twice.
    flow: decoded.pipe(
      twice,
      Throttle.by({ perSecond: 1e-9, burst: 1, key: (_, { offset }) => String(offset), excess: "fail" }),
    ),
    fansOut: true,
  },
  {
    name: "throttle that drops what comes again",
    flow: decoded.pipe(
      twice,
      Throttle.by({ perSecond: 1e-9, burst: 1, key: (_, { offset }) => String(offset), excess: "drop" }),
    ),
    fansOut: true,
  },
  { name: "mask", flow: decoded.pipe(Mask.by(Marked, { key, recordKey: "tokenise" }), Deliver.to(Results)) },
  {
    name: "mask after flatMap, then sessions by what is left of the key",
    flow: decoded.pipe(twice, Mask.by(Marked, { otherwise: Mask.keepLast(2) }), clicks, sessions),
    fansOut: true,
  },
  {
    name: "circuit breaker that holds",
    flow: decoded.pipe(
      CircuitBreaker.effect(flaky(), { ...circuit, counts: ["Down"], whileOpen: "hold", concurrency: 3 }),
      jumping(),
    ),
  },
  {
    name: "circuit breaker that stays closed",
    flow: decoded.pipe(
      CircuitBreaker.effect(orOdd, { ...circuit, counts: ["TimedOut"], whileOpen: "fail", concurrency: 3 }),
    ),
  },
  {
    name: "circuit breaker around a part of the flow",
    flow: decoded.pipe(
      refuseOdd,
      CircuitBreaker.around((flow) =>
        flow.pipe(
          Deliver.to(Results),
          Flow.filter((reading) => reading.n > 0),
          clicks,
          sessions,
        ), { ...circuit, counts: ["Undeliverable"], whileOpen: { fallback: () => "nothing" } }),
    ),
  },
]
