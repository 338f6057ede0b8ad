import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import {
  Aggregate,
  type Batch,
  Check,
  DeadLetter,
  Decider,
  Decode,
  Failures,
  Flow,
  Ingest,
  merge,
  Reply,
  type Task,
  Topic,
  Window,
} from "../../src/index.ts"
import { accounts, Events, type Happened, Overdrawn, rules, toEvents } from "../support/DeciderCases.ts"
import { byHand } from "../support/DecidingByHand.ts"
import { committed, type Rec, run, sources, type Start, type Tick } from "../support/FlowRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import { common, decoded, Dlt, Odd, Others, read, type Reading, Readings } from "../support/StageCases.ts"

const minute = 60_000

/** A reading under the key of its account; `at` in minutes. */
const reading = (id: string, n: number, at = 0, key: string | null = id.split("-")[0]!): Rec => (
  { key, value: JSON.stringify({ id, n, at: Math.round(at * minute) }), timestamp: 0 }
)

const deciding = decoded.pipe(Decider.stage(accounts, { publish: toEvents }))

type Decided = Decider.Decided<Reading, Happened>

interface How<A> {
  readonly flow?: Flow.Flow<A, Batch.Failure, Task.PipelineError, Task.Task | Task.Logged>
  readonly cuts?: ReadonlyArray<number>
  readonly start?: Start | undefined
  readonly ticks?: ReadonlyArray<Tick>
}

const through = <A = Decided>(
  records: ReadonlyArray<Rec>,
  { flow = deciding as How<unknown>["flow"] as NonNullable<How<A>["flow"]>, cuts = [], start, ticks = [] }: How<A> = {},
) =>
  run(
    flow,
    new Map([[
      Readings as Topic.Any,
      sources(Readings, records, cuts, { position: start?.positions.get(Readings) ?? 0, ticks }),
    ]]),
    start,
  )

type Ran = Effect.Success<ReturnType<typeof through<Decided>>>

const nameOf = (event: Happened) => event.type === "Emptied" ? "Emptied" : `${event.type} ${event.n}`

/** What became of each command, by offset. */
const answers = ({ batches }: Pick<Ran, "batches">): ReadonlyArray<string> =>
  batches.flatMap((batch) => {
    const rows = [
      ...batch.values.map(({ outcome, events }, i) => ({
        row: batch.rows?.[i] ?? i,
        text: [outcome, ...events.map(({ version, event }) => `${version} ${nameOf(event)}`)].join(", "),
      })),
      ...batch.failed.map(({ row, reason }) => ({
        row,
        text: "reason" in reason ? `${reason._tag} ${reason.reason}` : reason._tag,
      })),
    ]
    return rows.sort((a, b) => a.row - b.row).map(({ row, text }) => `${batch.source.offsets[row]}: ${text}`)
  })

const published = ({ batches }: Pick<Ran, "batches">): ReadonlyArray<string> =>
  batches.flatMap(({ outgoing }) =>
    outgoing.filter(({ topic }) => topic === Events.name).map(({ key, value }) => {
      const { version, event } = JSON.parse(String(value)) as { version: number; event: Happened }
      return `${key} ${version} ${nameOf(event)}`
    })
  )

describe("Decider.stage", () => {
  it.effect("decides commands in order, numbers the events of each key, and publishes them", () =>
    Effect.gen(function* () {
      const ran = yield* through([
        reading("ann-1", 3),
        reading("ben-1", 2),
        reading("ann-2", 8),
        reading("ann-3", 5),
        reading("ben-2", 9),
        reading("ann-4", 1),
      ])
      assert.deepStrictEqual(answers(ran), [
        "0: accepted, 1 Added 3",
        "1: accepted, 1 Added 2",
        "2: accepted, 2 Drawn 3, 3 Emptied",
        "3: accepted",
        "4: Overdrawn",
        "5: accepted, 4 Added 1",
      ])
      assert.deepStrictEqual(published(ran), [
        "ann 1 Added 3",
        "ben 1 Added 2",
        "ann 2 Drawn 3",
        "ann 3 Emptied",
        "ann 4 Added 1",
      ])
      assert.deepInclude(ran.batches[0]!.values[2], { key: "ann", commandId: "ann-2" })
      assert.deepStrictEqual(ran.batches[0]!.values[2]!.command, { id: "ann-2", n: 8, at: 0 })
    }))

  it.effect("answers a repeated command as the first time, whatever has happened since, and lets nothing happen", () =>
    Effect.gen(function* () {
      const ran = yield* through([
        reading("ann-1", 9),
        reading("ann-2", 4),
        reading("ann-1", 9),
        reading("ann-2", 1),
        reading("ben-2", 1),
      ], { cuts: [3] })
      assert.deepStrictEqual(answers(ran), [
        "0: Overdrawn",
        "1: accepted, 1 Added 4",
        "2: Overdrawn",
        "3: repeated, 1 Added 4",
        "4: accepted, 1 Added 1",
      ])
      assert.deepStrictEqual(published(ran), ["ann 1 Added 4", "ben 1 Added 1"])
      const [first, again] = ran.batches[0]!.failed.map(({ reason }) => reason)
      assert.instanceOf(again, Overdrawn)
      assert.strictEqual((again as Overdrawn).by, 4)
      assert.strictEqual(again!.message, first!.message)
    }))

  it.effect("refuses a command without a key, with another aggregate's key, or without an id, and changes nothing", () =>
    Effect.gen(function* () {
      const ran = yield* through([
        reading("ann-1", 1, 0, null),
        reading("ann-2", 1, 0, "ben"),
        reading("ann-6", 6),
      ])
      assert.deepStrictEqual(answers(ran), ["0: Keyless", "1: Undecidable Misaddressed", "2: Undecidable Unidentified"])
      assert.deepStrictEqual(ran.batches[0]!.failed.map(({ reason }) => reason.field), ["key", "key", "command id"])
      assert.strictEqual(ran.stores.get("accounts")!.size, 0)
    }))

  it.effect("does not take two keys that are not text for one", () =>
    Effect.gen(function* () {
      const [source] = sources(Readings, [reading("ann-1", 1), reading("ann-2", 1)], [])
      const keys = [200, 201].map((last) => Buffer.from([0, 0, 0, last]))
      const ran = yield* run(deciding, new Map([[Readings as Topic.Any, [{ ...source!, keys }]]]))
      assert.deepStrictEqual(answers(ran), ["0: Keyless", "1: Keyless"])
    }))

  it.effect.each(["aggregate", "commandId", "decide", "evolve", "record"])(
    "names the record at which %s throws",
    (what) =>
      Effect.gen(function* () {
        const boom = () => {
          throw new Error("boom")
        }
        const broken = Decider.make({
          ...rules,
          aggregate: (command: Reading) => what === "aggregate" && command.n === 4 ? boom() : rules.aggregate(command),
          commandId: (command: Reading) => what === "commandId" && command.n === 4 ? boom() : rules.commandId(command),
          decide: (state, command: Reading) =>
            what === "decide" && command.n === 4 ? boom() : rules.decide(state, command),
          evolve: (state, event) =>
            what === "evolve" && event.type === "Added" && event.n === 4 ? boom() : rules.evolve(state, event),
        })
        const publish: Decider.Publishing<Happened> = {
          topics: [Events],
          record: (recorded) => what === "record" && recorded.version === 2 ? boom() : toEvents.record(recorded),
        }
        const exit = yield* Effect.exit(
          through([reading("ann-1", 1), reading("ann-2", 4)], {
            flow: decoded.pipe(Decider.stage(broken, { publish })),
          }),
        )
        assert.include(String(exit), "topic readings partition 0 offset 1: Error: boom")
      }),
  )

  it.effect("refuses a topic that `topics` does not name", () =>
    Effect.gen(function* () {
      const publish = { topics: [], record: toEvents.record }
      const exit = yield* Effect.exit(
        through([reading("ann-1", 1)], { flow: decoded.pipe(Decider.stage(accounts, { publish })) }),
      )
      assert.include(String(exit), "an event of accounts goes to topic events, which `topics` does not name")
    }))

  it.effect("lets nothing happen where an event cannot be published, and remembers nothing", () =>
    Effect.gen(function* () {
      const Roomy = { ...Events, maxMessageBytes: 256 }
      // Two events, of which the second does not fit into the topic.
      const long = (i: number) => `ann-${"x".repeat(i)}`
      const ids = Array.from({ length: 80 }, (_, i) => long(i + 1))
      const fits = ids.map((id) => reading(id, 6))
      const ran = yield* through([reading("ann-0", 1), ...fits.map((r) => ({ ...r })), reading("ann-9", 2)], {
        flow: decoded.pipe(Decider.stage(
          Decider.make({
            ...rules,
            remember: { atMost: 1000 },
            decide: (_, { n }: Reading) =>
              Result.succeed<ReadonlyArray<Happened>>(
                n < 5 ? [{ type: "Added", n }] : [
                  { type: "Emptied" },
                  { type: "Added", n: 100_000 },
                ],
              ),
          }),
          { publish: { topics: [Roomy], record: (event) => ({ ...toEvents.record(event), topic: Roomy }) } },
        )),
      })
      const undeliverable = ran.batches[0]!.failed.map(({ row }) => row)
      assert.isAbove(undeliverable.length, 3)
      assert.isBelow(undeliverable.length, 77)
      assert.isTrue(ran.batches[0]!.failed.every(({ reason }) => reason._tag === "Undeliverable"))
      const accepted = 80 - undeliverable.length
      assert.strictEqual(published(ran).length, 2 + accepted * 2)
      assert.strictEqual(published(ran).at(-1), `ann ${2 + accepted * 2} Added 2`)
      const { version, results } = ran.stores.get("accounts")!.get("ann") as {
        version: number
        results: Array<unknown>
      }
      assert.deepStrictEqual([version, results.length], [2 + accepted * 2, 2 + accepted])
    }))

  it.effect("publishes events whatever becomes of their command behind it", () =>
    Effect.gen(function* () {
      const refuse = Check.with((decided: Decided) =>
        decided.command.n === 4 ? Result.fail(new Odd({ message: "four" })) : Result.succeed(decided)
      )
      const ran = yield* through([reading("ann-1", 1), reading("ann-2", 4)], { flow: deciding.pipe(refuse) })
      assert.deepStrictEqual(answers(ran), ["0: accepted, 1 Added 1", "1: Odd"])
      assert.deepStrictEqual(published(ran), ["ann 1 Added 1", "ann 2 Added 4"])
    }))

  it.effect("takes an id that one record brings twice, or another topic at the same offset, for a repeat", () =>
    Effect.gen(function* () {
      const twice = decoded.pipe(Flow.flatMap((r) => [r, r]), Decider.stage(accounts))
      assert.deepStrictEqual(answers(yield* through([reading("ann-1", 1)], { flow: twice })), [
        "0: accepted, 1 Added 1",
        "0: repeated, 1 Added 1",
      ])
      const both = decoded.pipe(merge(read(Others)), Decider.stage(accounts))
      const inputs = new Map(
        [Readings, Others].map((topic) => [topic as Topic.Any, sources(topic, [reading("ann-1", 1)], [])]),
      )
      const ran = yield* run(both, inputs)
      assert.deepStrictEqual(answers(ran), ["0: accepted, 1 Added 1", "0: repeated, 1 Added 1"])
      const again = yield* run(both, inputs, { ...committed(ran.batches), positions: new Map() })
      assert.deepStrictEqual(answers(again), answers(ran))
    }))
})

describe("Decider.stage, behind a fold", () => {
  it.effect("takes a record for new whose offset the wall clock has stood at", () =>
    Effect.gen(function* () {
      const window = Window.tumbling({ size: "1 minute", grace: "1 minute" })
      const flow = Ingest.topic(Readings).pipe(
        Decode.schema,
        Aggregate.count({ name: "minutes", window, emit: "final" }),
        Flow.map(({ key, start, value }): Reading => ({ id: `${key}-${start / minute}`, n: value, at: start })),
        Decider.stage(accounts),
      )
      // The tick before the third record closes minute 0, and the record minute 1.
      const records = [reading("ann-1", 1, 0), reading("ann-2", 1, 1.2), reading("ann-3", 1, 4), reading("ann-4", 1, 9)]
      const ran = yield* through(records, { flow, ticks: [{ before: 2, silence: 0.9 * minute }] })
      assert.deepStrictEqual(
        ran.batches.flatMap(({ values }) => values.map(({ commandId, outcome }) => `${commandId} ${outcome}`)),
        ["ann-0 accepted", "ann-1 accepted", "ann-4 accepted"],
      )
      assert.deepStrictEqual(ran.batches.flatMap(({ failed }) => failed), [])
    }))
})

describe("Decider.stage, after a crash that has left state ahead of positions", () => {
  const before = [
    reading("ann-1", 3),
    reading("ann-2", 8),
    reading("ben-1", 9),
    reading("ann-1", 3),
    reading("ben-2", 4),
    reading("ben-3", 5),
  ]

  it.effect("answers what is read again as it did, publishes it again, and changes nothing", () =>
    Effect.gen(function* () {
      const all = [...before, reading("ben-4", 1), reading("ann-2", 8)]
      const first = yield* through(before)
      for (let position = 0; position <= before.length; position++) {
        const start = { ...committed(first.batches), positions: new Map([[Readings as Topic.Any, position]]) }
        const again = yield* through(all, { start, cuts: [3] })
        assert.deepStrictEqual(answers(again), [
          ...answers(first).slice(position),
          "6: accepted, 2 Added 1",
          "7: repeated, 2 Drawn 3, 3 Emptied",
        ], `from ${position}`)
        const whole = yield* through(all)
        assert.deepStrictEqual(again.stores, whole.stores)
      }
      assert.deepStrictEqual(
        published(yield* through(before, { start: { ...committed(first.batches), positions: new Map() } })),
        published(first),
      )
    }))

  it.effect("says that a result is forgotten, and does not decide again", () =>
    Effect.gen(function* () {
      const all = Array.from({ length: 6 }, (_, i) => reading(`ann-${i}`, 1))
      const first = yield* through(all)
      const start = { ...committed(first.batches), positions: new Map() }
      const again = yield* through([...all, reading("ann-0", 1)], { start })
      assert.deepStrictEqual(answers(again), [
        "0: Undecidable Forgotten",
        "1: Undecidable Forgotten",
        "2: Undecidable Forgotten",
        "3: accepted, 4 Added 1",
        "4: accepted, 5 Added 1",
        "5: accepted, 6 Added 1",
        "6: accepted, 7 Added 1",
      ])
    }))

  it.effect("does not take the commands of one record for each other's crash", () =>
    Effect.gen(function* () {
      const flow = decoded.pipe(
        Flow.flatMap((r) => ["a", "b", "c", "d", "e"].map((x) => ({ ...r, id: `${r.id}${x}` }))),
        Decider.stage(accounts),
      )
      const first = yield* through([reading("ann-1", 1)], { flow })
      assert.deepStrictEqual(answers(first), [1, 2, 3, 4, 5].map((version) => `0: accepted, ${version} Added 1`))
      const again = yield* through([reading("ann-1", 1)], {
        flow: flow.pipe(Decider.events, Flow.map(({ version }) => version)),
        start: { ...committed(first.batches), positions: new Map() },
      })
      assert.deepStrictEqual(again.stores, first.stores)
      assert.deepStrictEqual(again.batches[0]!.failed.map(({ reason }) => reason._tag), ["Undecidable"])
    }))
})

describe("what a decider remembers", () => {
  it.effect("is the latest results of a key, as many as it is told", () =>
    Effect.gen(function* () {
      const ran = yield* through([
        ...["ann-1", "ann-2", "ann-3", "ann-1", "ann-4", "ann-2", "ann-1"].map((id) => reading(id, 1)),
      ])
      assert.deepStrictEqual(answers(ran).map((answer) => answer.split(",")[0]), [
        "0: accepted",
        "1: accepted",
        "2: accepted",
        "3: repeated",
        "4: accepted",
        "5: repeated",
        "6: accepted",
      ])
    }))

  it.effect("lasts for its window of stream time, and at most a step longer", () =>
    Effect.gen(function* () {
      // Two minutes, in steps of five seconds.
      const repeated = Effect.fnUntraced(function* (decidedAt: number, at: number, again = at) {
        const ran = yield* through([
          reading("ann-1", 1, decidedAt),
          reading("ben-1", 1, at),
          reading("ann-1", 1, again),
        ])
        return answers(ran)[2]!.includes("repeated")
      })
      const step = 5 / 60
      assert.isTrue(yield* repeated(10, 12))
      assert.isTrue(yield* repeated(10, 12 + 0.9 * step))
      assert.isFalse(yield* repeated(10, 12 + step))
      assert.isTrue(yield* repeated(10 + 0.9 * step, 12 + 0.95 * step))
      assert.isFalse(yield* repeated(10, 13, 10))
    }))

  it.effect("is measured by the latest event time, which an older one does not set back", () =>
    Effect.gen(function* () {
      const ran = yield* through([
        reading("ben-1", 1, 13),
        reading("ann-1", 1, 10),
        reading("ben-2", 1, 14),
        reading("ann-1", 1, 11),
      ])
      assert.include(answers(ran)[3], "repeated")
    }))

  it.effect("goes with the wall clock where that ticks, and without a command of its key", () =>
    Effect.gen(function* () {
      const results = Effect.fnUntraced(function* (silence: number) {
        const ran = yield* through([reading("ann-1", 1, 10)], { ticks: [{ before: 1, silence }] })
        return (ran.stores.get("accounts")!.get("ann") as { results: Array<unknown> }).results.length
      })
      assert.strictEqual(yield* results(2 * minute), 1)
      assert.strictEqual(yield* results(3 * minute), 0)
    }))

  it.effect("leaves nothing of a key to which nothing has happened", () =>
    Effect.gen(function* () {
      const ran = yield* through([reading("ann-1", 9, 10), reading("cho-1", 5, 10), reading("ben-1", 1, 20)])
      assert.deepStrictEqual([...ran.stores.get("accounts")!.keys()], ["ben"])
      assert.deepStrictEqual(answers(ran)[0], "0: Overdrawn")
    }))

  it.effect("may last for ever", () =>
    Effect.gen(function* () {
      const forever = Decider.make({ ...rules, remember: { window: Infinity } })
      const ran = yield* through([reading("ann-1", 1, 10), reading("ben-1", 1, 1e9), reading("ann-1", 1, 1e9)], {
        flow: decoded.pipe(Decider.stage(forever)),
      })
      assert.include(answers(ran)[2], "repeated")
    }))

  it("has bounds that make sense", () => {
    for (const remember of [{ atMost: 0 }, { atMost: 1.5 }, { atMost: 10_001 }, { window: 0 }, { window: NaN }]) {
      assert.throws(() => Decider.make({ ...rules, remember }), RangeError, "decider accounts")
    }
  })
})

const randomReadings = (dice: Dice): ReadonlyArray<Rec> => {
  let at = 100
  return dice.list(0, 80, () => {
    const key = dice.pick(["ann", "ben", "cho"])
    at += dice.int(-20, 30) / 60
    const other = dice.int(0, 19)
    return reading(`${key}-${dice.int(0, 12)}`, dice.int(0, 9), at, other === 0 ? null : other === 1 ? "dee" : key)
  })
}

describe("Decider.stage over random commands", () => {
  it.effect("answers as rules and bounds written by hand, over cuts, restarts and what is read again", () =>
    forSeeds(150, (dice) =>
      Effect.gen(function* () {
        const records = randomReadings(dice)
        const window = dice.pick([30_000, 120_000, 600_000])
        const atMost = dice.int(1, 8)
        const flow = decoded.pipe(
          Decider.stage(Decider.make({ ...rules, remember: { window, atMost } }), { publish: toEvents }),
        )
        const cut = dice.int(0, records.length)
        const cuts = [...dice.list(0, 6, () => dice.int(0, 80)), cut]
        const first = yield* through(records, { flow, cuts })
        const { decisions, sums } = byHand(records, window, atMost)
        const texts = decisions.map(({ outcome, events }, offset) => `${offset}: ${[outcome, ...events].join(", ")}`)
        assert.deepStrictEqual(answers(first), texts)

        const done = first.batches.filter(({ source }) => source.next <= cut)
        const rest = yield* through(records, {
          flow,
          start: committed(done),
          cuts: dice.list(0, 6, () => dice.int(0, 80)),
        })
        assert.deepStrictEqual([...answers({ batches: done }), ...answers(rest)], texts)
        const states = new Map(
          Array.from(rest.stores.get("accounts")!, ([key, aggregate]) => [
            key,
            (aggregate as { state: { sum: number } }).state.sum,
          ]),
        )
        for (const [key, sum] of sums) assert.strictEqual(states.get(key) ?? 0, sum)

        // Read again from the beginning, with the state of the end: as the first time, or forgotten.
        const again = yield* through(records, { flow, start: { ...committed(first.batches), positions: new Map() } })
        const textOf = (answer: string) => answer.replace(/^\d+: /, "").replace(/^accepted/, "repeated")
        for (const [i, answer] of answers(again).entries()) {
          const { key, value } = records[i]!
          const { id } = JSON.parse(value!) as Reading
          // Where its own result is forgotten, a later one under the same id may not be.
          const later = records.flatMap((record, j) =>
            j > i && record.key === key && (JSON.parse(record.value!) as Reading).id === id ? [textOf(texts[j]!)] : []
          )
          const may = [texts[i]!, "Undecidable Forgotten", ...later].map(textOf)
          if (!sums.has(key!)) may.push("repeated", "Overdrawn")
          assert.include(may, textOf(answer))
        }
        const versions = new Set(published(first))
        for (const event of published(again)) assert.isTrue(versions.has(event), event)
        assert.deepStrictEqual(
          new Map(Array.from(again.stores.get("accounts")!).filter(([key]) => sums.has(key))),
          new Map(Array.from(first.stores.get("accounts")!).filter(([key]) => sums.has(key))),
        )
      })))

  it.effect("answers as Decider.run where everything is remembered, and its events rebuild its states", () =>
    forSeeds(50, (dice) =>
      Effect.gen(function* () {
        const good = ({ key, value }: Rec) => {
          const { id, n } = JSON.parse(value!) as Reading
          return key !== null && id.startsWith(`${key}-`) && n !== 7 && !(n === 6 && id.endsWith("-6"))
        }
        const records = randomReadings(dice).filter(good)
        const decider = Decider.make({ ...rules, remember: { window: Infinity, atMost: 10_000 } })
        const ran = yield* through(records, { flow: decoded.pipe(Decider.stage(decider, { publish: toEvents })) })
        const commands = records.map(({ value }) => JSON.parse(value!) as Reading)
        const pure = Decider.run(decider, commands)
        assert.deepStrictEqual(
          answers(ran),
          pure.map(({ outcome, result }, i) =>
            Result.isFailure(result)
              ? `${i}: ${result.failure._tag}`
              : [`${i}: ${outcome}`, ...result.success.map(({ version, event }) => `${version} ${nameOf(event)}`)].join(
                ", ",
              )
          ),
        )
        const events = ran.batches.flatMap(({ outgoing }) =>
          outgoing.map(({ value }): Decider.Recorded<Happened> => {
            const { account, command, version, event } = JSON.parse(String(value)) as typeof Events.schema.Type
            return { key: account, commandId: command, version, event }
          })
        )
        const rebuilt = Result.getOrThrow(Decider.rebuild(decider, events))
        const stored = Array.from(ran.stores.get("accounts")!, ([key, aggregate]) => {
          const { state, version } = aggregate as Decider.Rebuilt<{ readonly sum: number }>
          return [key, { state, version }] as const
        })
        assert.deepStrictEqual(new Map(rebuilt), new Map(stored.filter(([, { version }]) => version > 0)))
        for (const [key, { state }] of rebuilt) {
          const own = events.filter((event) => event.key === key).map(({ event }) => event)
          assert.deepStrictEqual(Decider.fold(decider, own), state)
        }
      })))
})

describe("Decider.rebuild", () => {
  const recorded = (key: string, version: number, n = version): Decider.Recorded<Happened> => (
    { key, version, commandId: "c", event: { type: "Added", n } }
  )

  it("takes the events of a key in any order, and what comes again", () => {
    const events = [1, 2, 3, 4, 5].map((version) => recorded("ann", version))
    for (const order of [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 2, 0, 4, 0, 1, 3, 1]]) {
      const rebuilt = Decider.rebuild(accounts, [recorded("ben", 1), ...order.map((i) => events[i]!)])
      assert.deepStrictEqual(
        Result.getOrThrow(rebuilt),
        new Map([["ben", { state: { sum: 1 }, version: 1 }], ["ann", { state: { sum: 15 }, version: 5 }]]),
      )
    }
  })

  it("says which version is missing", () => {
    const gap = Result.merge(Decider.rebuild(accounts, [recorded("ann", 1), recorded("ann", 3), recorded("ann", 4)]))
    assert.instanceOf(gap, Decider.Gap)
    assert.deepInclude(gap, { key: "ann", version: 2 })
    assert.strictEqual(
      (gap as Decider.Gap).message,
      "version 2 is missing, and 2 later events are there",
    )
    assert.deepInclude(Result.merge(Decider.rebuild(accounts, [recorded("ann", 2)])), { key: "ann", version: 1 })
  })
})

describe("Decider.events", () => {
  it.effect("goes on with each event, and counts what brings none", () =>
    Effect.gen(function* () {
      const flow = deciding.pipe(Decider.events)
      const records = [reading("ann-1", 1), reading("ann-2", 6), reading("ann-1", 1), reading("ann-3", 5)]
      const { batches: [batch] } = yield* run(flow, new Map([[Readings as Topic.Any, sources(Readings, records, [])]]))
      assert.deepStrictEqual(batch!.values.map(({ key, version, commandId }) => [key, version, commandId]), [
        ["ann", 1, "ann-1"],
        ["ann", 2, "ann-2"],
        ["ann", 3, "ann-2"],
      ])
      assert.deepStrictEqual([...batch!.rows!], [0, 1, 1])
      assert.deepStrictEqual(batch!.dropped, [{ row: 2, reason: "repeated" }, { row: 3, reason: "empty" }])
    }))
})

describe("Reply.to", () => {
  const Refusals = Topic.make({
    ...common,
    name: "refusals",
    schema: Schema.Struct({ by: Schema.Int, command: Schema.NonEmptyString }),
  })
  const answered = (command: (of: Reply.Origin) => string) =>
    decoded.pipe(
      Decider.stage(accounts),
      Failures.route({
        Overdrawn: Reply.to(Refusals, ({ by }, origin) => ({ by, command: command(origin) })),
        DecodeError: DeadLetter.to(Dlt),
      }),
    )

  it.effect("answers a failure in the record's own key, and a repeat of it with the same", () =>
    Effect.gen(function* () {
      const flow = answered(({ key, offset }) => `${key} ${offset}`)
      const { batches: [batch] } = yield* through([reading("ann-1", 9), reading("ann-2", 4), reading("ann-1", 9)], {
        flow,
      })
      assert.deepStrictEqual(batch!.outgoing.map(({ topic, key, value }) => [topic, String(key), String(value)]), [
        ["refusals", "ann", '{"by":4,"command":"ann 0"}'],
        ["refusals", "ann", '{"by":4,"command":"ann 2"}'],
      ])
      assert.deepStrictEqual(batch!.failed, [])
      assert.strictEqual(batch!.outgoing[0]!.failure, "Overdrawn")
    }))

  it.effect("stops at the record where there is no answer that the contract takes", () =>
    Effect.gen(function* () {
      const record = [reading("ann-1", 4), reading("ann-2", 9, 0)]
      const refused = yield* Effect.exit(through([...record, reading("ann-3", 9)], { flow: answered(() => "") }))
      assert.include(
        String(refused),
        "at topic readings partition 0 offset 2: Error: no answer to Overdrawn for topic refusals",
      )
      const thrown = yield* Effect.exit(through([reading("ann-3", 9)], {
        flow: answered(() => {
          throw new Error("boom")
        }),
      }))
      assert.include(String(thrown), "at topic readings partition 0 offset 0: Error: boom")
    }))
})
