/** Law 5 of deciders: programs die, are refused and do not hear at any step, and every command has one result. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema, SchemaTransformation } from "effect"
import { Decider, Decode, Failures, Guarantee, Ingest, Pipeline } from "../../src/index.ts"
import { Driver, Faults } from "../../src/testing/index.ts"
import { rules } from "../support/DeciderCases.ts"
import * as Deciding from "../support/Deciding.ts"
import { Dice, forSeeds } from "../support/Seeds.ts"
import type { Reading } from "../support/StageCases.ts"

const options = { window: 3_600_000, atMost: 100 }
const sent = Deciding.commands(new Dice(1), 80)
const exactly = Deciding.pipeline(Guarantee.exactlyOnce(), options)
const atLeast = Deciding.pipeline(Guarantee.atLeastOnce(), options)

const faults: ReadonlyArray<readonly [name: string, fault: Faults.Fault]> = [
  ["dies before", Faults.crash(Effect.void)],
  ["dies after", Faults.crashAfter(Effect.void)],
  ["cannot reach the brokers at", Faults.unreachable],
  ["does not hear the answer to", Faults.loseAnswer],
]

const matters = ({ operation }: Faults.Call) => operation !== "Fetch" && operation !== "Heartbeat"

/** Commands come a few at a time, some before the program starts. */
const through = (pipeline: typeof exactly, commands: ReadonlyArray<Reading>, plan = Faults.none) =>
  Driver.run({ pipelines: pipeline, start: false, logLevel: "Fatal" }, (driver) =>
    Effect.gen(function* () {
      yield* driver.feed(Deciding.Commands, commands.slice(0, 16))
      const member = yield* driver.start(pipeline, plan)
      for (let fed = 16; fed < commands.length; fed += 8) {
        yield* driver.feed(Deciding.Commands, commands.slice(fed, fed + 8))
        yield* driver.advance(120)
      }
      yield* driver.settle
      yield* rebuilds(driver, pipeline)
      return { ...yield* Deciding.observed(driver), calls: yield* member.calls }
    }))

/** What the events tell is what the store holds, whatever has happened. */
const rebuilds = Effect.fnUntraced(function* (driver: Driver.Driver, pipeline: typeof exactly) {
  const { events } = yield* Deciding.observed(driver)
  const rebuilt = Result.getOrThrow(Decider.rebuild(Deciding.decider(options), events))
  assert.deepStrictEqual(new Map(rebuilt), yield* Deciding.stored(driver, pipeline))
})

const atEveryStep = (pipeline: typeof exactly, check: (results: Deciding.Results, at: string) => void) =>
  Effect.gen(function* () {
    const { calls, results } = yield* through(pipeline, sent)
    check(results, "no fault")
    let repeats = 0
    for (const { operation, count } of calls.filter(matters)) {
      for (const [name, fault] of faults) {
        const run = yield* through(pipeline, sent, Faults.at(operation, count, fault))
        check(run.results, `${name} ${operation} ${count}`)
        if (run.events.length > Object.values(results.events).flat().length) repeats++
      }
    }
    return repeats
  })

const expected = Deciding.expected(sent, options)

/** Each line once, those of an account in the order in which they came first. */
const once = (lines: Deciding.Results["events"]) =>
  Object.fromEntries(Object.entries(lines).map(([key, some]) => [key, [...new Set(some)]]))

/** Nothing is missing and nothing has happened twice; all of it may be told twice. */
const nothingMissing = (results: Deciding.Results, of: Deciding.Results, at: string) => {
  for (const what of ["events", "rejected", "replies"] as const) {
    assert.deepStrictEqual(once(results[what]), once(of[what]), `${what}: ${at}`)
  }
  assert.isAtLeast(results.dead, of.dead, at)
  for (const [key, added] of Object.entries(of.added)) assert.isAtLeast(results.added[key] ?? 0, added, at)
}

describe("a decider, exactly once", () => {
  it("has something of everything", () => {
    for (const [what, accounts] of [["events", 5], ["replies", 5], ["rejected", 2]] as const) {
      assert.isAtLeast(Object.keys(expected[what]).length, accounts, what)
    }
    assert.isAbove(expected.dead, 1)
    assert.include(JSON.stringify(expected.replies), "repeated")
  })

  it.effect(
    "answers every command once, with any fault at any step",
    () => atEveryStep(exactly, (results, at) => assert.deepStrictEqual(results, expected, at)),
    240_000,
  )

  it.effect("does so where its task fails and is tried again", () =>
    Effect.gen(function* () {
      for (let batch = 1; batch < 20; batch++) {
        const stumbling = Deciding.pipeline(Guarantee.exactlyOnce(), { ...options, stumblesAt: [batch, batch + 1] })
        const { results } = yield* through(stumbling, sent)
        assert.deepStrictEqual(results, expected, `stumbles at ${batch}`)
      }
    }), 60_000)
})

describe("a decider whose state has another shape than before", () => {
  it.effect("goes on where its codec reads the old one", () => {
    const Before = Schema.Struct({ sum: Schema.Int })
    const After = Schema.Struct({ total: Schema.Int, currency: Schema.String })
    const read = Before.pipe(Schema.decodeTo(
      After,
      SchemaTransformation.transform({
        decode: ({ sum }) => ({ total: sum, currency: "EUR" }),
        encode: ({ total }) => ({ sum: total }),
      }),
    ))
    const later = Decider.make({
      ...rules,
      state: Schema.Union([After, read]),
      initial: { total: 0, currency: "USD" },
      decide: ({ total }, command: Reading) => rules.decide({ sum: total }, command),
      evolve: ({ total, currency }, event) => ({ total: rules.evolve({ sum: total }, event).sum, currency }),
    })
    const migrated = Pipeline.make(
      exactly.name,
      Ingest.topic(Deciding.Commands).pipe(Decode.schema, Decider.stage(later), Failures.routeAll(Failures.skip)),
      Guarantee.exactlyOnce(),
    )
    const command = (id: string, n: number): Reading => ({ id, n, at: 1_000 })
    return Driver.run({ pipelines: exactly }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Deciding.Commands, [command("ann-1", 4), command("ben-1", 3)])
        yield* driver.settle
        for (const member of yield* driver.members) yield* member.stop
        yield* driver.crash
        yield* driver.start(migrated)
        yield* driver.feed(Deciding.Commands, [command("ann-1", 4), command("ann-2", 7), command("cho-1", 1)])
        yield* driver.feed(Deciding.Commands, [command("ann-3", 6)])
        yield* driver.settle
        const states = Array.from(yield* driver.store(migrated, rules.name), ([key, aggregate]) => {
          const { state, version } = aggregate as Decider.Rebuilt<typeof After.Type>
          return [key, state, version] as const
        })
        assert.deepStrictEqual(states.sort(), [
          ["ann", { total: 3, currency: "EUR" }, 2],
          ["ben", { total: 3, currency: "EUR" }, 1],
          ["cho", { total: 1, currency: "USD" }, 1],
        ])
      }))
  })
})

describe("a decider, at least once", () => {
  it.effect(
    "misses no answer and lets nothing happen twice, with any fault at any step",
    () =>
      Effect.gen(function* () {
        const repeats = yield* atEveryStep(atLeast, (results, at) => nothingMissing(results, expected, at))
        assert.isAbove(repeats, 2, "some faults make events come again")
      }),
    240_000,
  )
})

describe.each([["exactly once", Guarantee.exactlyOnce()], ["at least once", Guarantee.atLeastOnce()]] as const)(
  "programs of a decider that come and go, %s",
  (name, guarantee) => {
    it.effect("leave states that are what the events tell", () =>
      forSeeds(40, (dice, seed) => {
        const remember = { window: dice.pick([20_000, 3_600_000]), atMost: dice.pick([1, 3, 100]) }
        const pipeline = Deciding.pipeline(guarantee, remember)
        return Driver.run({ pipelines: pipeline, seed, logLevel: "Fatal" }, (driver) =>
          Effect.gen(function* () {
            const commands = Deciding.commands(dice, dice.int(40, 160))
            for (let fed = 0; fed < commands.length;) {
              const next = fed + dice.int(1, 30)
              yield* driver.feed(Deciding.Commands, commands.slice(fed, next))
              fed = next
              yield* driver.advance(dice.pick([20, 90, 150, 400]))
              const what = dice.pick(["crash", "start", "disturb", "wait"])
              const members = yield* driver.members
              if (what === "start" && members.length < 3) yield* driver.start(pipeline)
              if (what === "crash") yield* driver.crash
              if (what === "disturb") {
                yield* driver.inject(Faults.random(dice.int(1, 1e9), { refuse: 0.1, loseAnswer: 0.1, delay: 0.1 }))
              }
              yield* driver.restart
            }
            yield* driver.inject(Faults.none)
            yield* driver.settle
            const { results, events } = yield* Deciding.observed(driver)
            const rebuilt = Result.getOrThrow(Decider.rebuild(Deciding.decider(remember), events))
            assert.deepStrictEqual(new Map(rebuilt), yield* Deciding.stored(driver, pipeline))
            const whole = Deciding.expected(commands, remember)
            if (name === "exactly once") return assert.deepStrictEqual(results, whole)
            assert.deepStrictEqual(once(results.events), whole.events)
            if (remember.atMost === 100 && remember.window === 3_600_000) nothingMissing(results, whole, "")
          }))
      }), 240_000)
  },
)
