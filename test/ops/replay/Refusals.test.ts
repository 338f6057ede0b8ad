/** What replays refuse, what stages see of them, and what their plans say. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Result, Schema } from "effect"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  type Kafka,
  Pipeline,
  Replay,
  Topic,
} from "../../../src/index.ts"
import * as ClusterMemory from "../../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../../src/kafka/Faults.ts"
import * as Simulation from "../../support/Simulation.ts"
import { Payments, payments, totals } from "./Totals.ts"
import * as Totals from "./Totals.ts"
import * as World from "./World.ts"

const run = Simulation.options
const about = { owner: "tests", description: "Test", partitions: 2 }
const Out = Topic.make({ ...about, name: "out", schema: Schema.Struct({ shop: Schema.String, cents: Schema.Int }) })
const Dlt = Topic.bytes({ ...about, name: "dlt" })
const topics = [...Totals.topics, Out, Dlt]

/** Copies, and sends a mail for every record. */
const mailing = (sent: Array<string>, onReplay?: Flow.OnReplay) =>
  Pipeline.make(
    "mailing",
    Ingest.topic(Payments).pipe(
      Decode.schema,
      Flow.tapEffect(
        ({ customer, cents }, record) =>
          Effect.sync(() => void sent.push(`${customer} ${cents} ${record.isReplayed ? "again" : "first"}`)),
        onReplay === undefined ? {} : { onReplay },
      ),
      Flow.map(({ shop, cents }) => ({ shop, cents })),
      Deliver.to(Out),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    Guarantee.exactlyOnce(),
  )

const reasons = <R>(pipeline: Replay.Any<R>, asked: Replay.Asked & Replay.Allowed) =>
  Effect.map(
    World.passing(Replay.plan(pipeline, asked)),
    (plan) => Replay.refusals(plan, asked).map(({ reason }) => reason),
  )

const refused = <R>(pipeline: Replay.Any<R>, options: Omit<Replay.Options, "journal">) =>
  Effect.gen(function* () {
    const journal = World.journal()
    const exit = yield* Effect.exit(World.passing(Replay.run(pipeline, { ...options, journal, run })))
    assert.isEmpty(journal.saved)
    return World.reasonOf(exit)
  })

const { earliest } = Replay
const out = Effect.flatMap(ClusterMemory.Control, (control) => control.records(Out.name))

describe("a replay", () => {
  it.effect("is refused while a program is at work, and takes nothing from it", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const pipeline = mailing([], "safe")
      yield* Simulation.start(pipeline, Faults.none)
      yield* Simulation.until("the input", World.isCaughtUp(pipeline))
      assert.strictEqual(yield* refused(pipeline, { from: earliest }), "Active")
      yield* Simulation.feed(payments(20, 30))
      yield* Simulation.until("more input", World.isCaughtUp(pipeline))
      assert.lengthOf(yield* out, 30)
    })))

  it.effect("is refused where effects are not declared safe, and leaves out those that are to be", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const sent: Array<string> = []
      yield* World.process(mailing(sent))
      assert.lengthOf(sent, 20)
      const undeclared = yield* Effect.exit(
        World.passing(Replay.run(mailing(sent), { from: earliest, journal: World.journal(), run })),
      )
      assert.match(String(undeclared), /stage tapEffect has effects that are not declared safe/)

      // Reset only: what other programs do with it is visible to their stages too.
      const journal = World.journal()
      const skipping = mailing(sent, "skip")
      const entry = yield* World.passing(Replay.run(skipping, { from: earliest, journal, run, resetOnly: true }))
      assert.strictEqual(entry.step, "applied")
      yield* Simulation.feed(payments(20, 24))
      yield* World.process(skipping)
      assert.lengthOf(yield* out, 44)
      assert.lengthOf(sent, 24)
      assert.isTrue(sent.every((mail) => mail.endsWith("first")))

      yield* World.passing(Replay.run(mailing(sent, "safe"), { from: earliest, journal, run }))
      assert.lengthOf(sent.filter((mail) => mail.endsWith("again")), 24)
      yield* Simulation.feed(payments(24, 26))
      yield* World.process(mailing(sent, "safe"))
      assert.lengthOf(sent.filter((mail) => mail.endsWith("first")), 26)
    })))

  it.effect("that is undone sends nothing again that was sent since", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const sent: Array<string> = []
      const pipeline = mailing(sent, "skip")
      yield* World.process(pipeline)
      const journal = World.journal()
      const entry = yield* World.passing(Replay.run(pipeline, { from: earliest, journal, run }))
      yield* Simulation.feed(payments(20, 30))
      yield* World.process(pipeline)
      assert.lengthOf(sent, 30)
      yield* World.passing(Replay.undo(pipeline, entry, { journal }))
      yield* Simulation.feed(payments(30, 34))
      yield* World.process(pipeline)
      assert.lengthOf(yield* out, 64)
      assert.lengthOf(sent, 34)
    })))

  it.effect("that is begun anew before the last one is over sends nothing again either", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const sent: Array<string> = []
      const pipeline = mailing(sent, "skip")
      yield* World.process(pipeline)
      const journal = World.journal()
      const options = { journal, run, resetOnly: true }
      yield* World.passing(Replay.run(pipeline, { from: earliest, ...options }))
      yield* Simulation.pass(1_000)
      yield* World.passing(Replay.run(pipeline, { from: earliest, ...options }))
      yield* World.process(pipeline)
      assert.lengthOf(yield* out, 40)
      assert.lengthOf(sent, 20)
    })))

  it.effect("fails where a task stops that has not come to its end, and does not wait for it for ever", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const pipeline = mailing([], "safe")
      yield* World.process(pipeline)
      const broken = Pipeline.make(
        "mailing",
        Ingest.topic(Payments).pipe(
          Decode.schema,
          Flow.map(({ shop, cents }, { partition }) => {
            if (partition === 1) throw new Error("a mistake")
            return { shop, cents }
          }),
          Deliver.to(Out),
          Failures.routeAll(DeadLetter.to(Dlt)),
        ),
        Guarantee.exactlyOnce(),
      )
      const journal = World.journal()
      const exit = yield* Effect.exit(World.passing(Replay.run(broken, { from: earliest, journal, run })))
      assert.include(World.reasonOf(exit), "a mistake")
      yield* World.passing(Replay.resume(pipeline, journal.last(), { journal, run }))
      assert.strictEqual(journal.last().step, "finished")
      assert.lengthOf(yield* out, 40)
    })))

  it.effect("goes on with no file of a pipeline that read or kept something else", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 4))
      const pipeline = mailing([], "safe")
      yield* World.process(pipeline)
      const journal = World.journal()
      const entry = yield* World.passing(Replay.run(pipeline, { from: earliest, journal, run, resetOnly: true }))
      const other = { ...totals(({ cents }) => cents), name: "mailing" }
      for (const step of [Replay.resume(other, entry, { journal, run }), Replay.undo(other, entry, { journal })]) {
        assert.strictEqual(World.reasonOf(yield* Effect.exit(World.passing(step))), "Positions")
      }
      assert.strictEqual((yield* World.passing(Replay.undo(pipeline, entry, { journal }))).step, "undone")
    })))

  it.effect("is visible until it is over, over restarts in the middle of it", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 40))
      const sent: Array<string> = []
      const pipeline = mailing(sent, "safe")
      yield* World.process(pipeline)
      sent.length = 0
      const journal = World.journal()
      const entry = yield* World.passing(Replay.run(pipeline, { from: earliest, journal, run, resetOnly: true }))
      // Slowly, so that it is stopped on the way.
      const slow = yield* World.through(
        Replay.resume(pipeline, entry, { journal, run, rate: 4 }),
        (kill) => Faults.at("TxnOffsetCommit", 2, Faults.crash(kill)),
      )
      assert.strictEqual(slow.exit, "died")
      yield* Simulation.pass(15_000, 500)
      yield* World.passing(Replay.resume(pipeline, journal.last(), { journal, run }))
      assert.isAtLeast(sent.length, 40)
      assert.isTrue(sent.every((mail) => mail.endsWith("again")))
    })))

  it.effect("of state is refused without a word about it, and where the state would begin in the middle", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const pipeline = totals(({ cents }) => cents)
      yield* World.process(pipeline)
      assert.deepStrictEqual(yield* reasons(pipeline, { from: earliest }), ["Stateful"])
      assert.deepStrictEqual(yield* reasons(pipeline, { from: earliest, resetState: true }), [])
      const later = Replay.offsets(new Map([[Payments.name, new Map([[0, 4], [1, 4]])]]))
      assert.deepStrictEqual(yield* reasons(pipeline, { from: later, resetState: true }), ["PartialState"])
      assert.deepStrictEqual(yield* reasons(pipeline, { from: later, resetState: true, partialState: true }), [])
      assert.deepStrictEqual(yield* reasons(pipeline, { from: earliest, to: later, resetState: true }), ["Stateful"])
      assert.strictEqual(yield* refused(pipeline, { from: earliest }), "Stateful")
    })))

  it.effect("says what retention has taken", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 20))
      const pipeline = mailing([], "safe")
      yield* World.process(pipeline)
      const cluster = yield* ClusterMemory.Control
      const stored = (yield* cluster.records(Payments.name)).length
      assert.strictEqual(stored, 20)
      yield* Simulation.pass(9 * 24 * 3_600_000, 3_600_000)
      yield* Simulation.feed(payments(20, 30))
      yield* cluster.expire
      const asked = Replay.offsets(new Map([[Payments.name, new Map([[0, 2], [1, 3]])]]))
      const plan = yield* World.passing(Replay.plan(pipeline, { from: asked }))
      const missing = plan.partitions.reduce((sum, { missing }) => sum + missing, 0)
      assert.strictEqual(missing, 15)
      assert.deepStrictEqual(yield* reasons(pipeline, { from: asked }), ["Retention"])
      assert.isFalse(plan.isWhole)
      assert.deepStrictEqual(yield* reasons(pipeline, { from: earliest }), [])
    })))

  it.effect("begins and ends where it is told, and the group then stands where it stood", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 40))
      const pipeline = mailing([], "safe")
      yield* World.process(pipeline)
      const at = (offset: number) => Replay.offsets(new Map([[Payments.name, new Map([[0, offset], [1, offset]])]]))
      const plan = yield* World.passing(Replay.plan(pipeline, { from: at(5), to: at(9) }))
      assert.deepStrictEqual(
        plan.partitions.map(({ position, from, to, records }) => [position, from, to, records]),
        [[20, 5, 9, 4], [20, 5, 9, 4]],
      )
      const journal = World.journal()
      yield* World.passing(Replay.run(pipeline, { from: at(5), to: at(9), journal, run }))
      assert.lengthOf(yield* out, 48)
      yield* Simulation.until("the positions", World.isCaughtUp(pipeline), 1_000)
      yield* World.process(pipeline)
      assert.lengthOf(yield* out, 48)
      assert.strictEqual(World.reasonOf(yield* Effect.exit(Replay.plan(pipeline, { from: at(30) }))), "Positions")
    })))

  it.effect("goes no faster than it may, and not much slower, where records come one by one or many at a time", () =>
    Effect.forEach([1, 50], (together) =>
      World.world(topics)(Effect.gen(function* () {
        for (let i = 0; i < 200; i += together) yield* Simulation.feed(payments(i, i + together))
        const pipeline = mailing([], "safe")
        yield* World.process(pipeline)
        const options = { from: earliest, journal: World.journal(), run, rate: 10 }
        const began = yield* Clock.currentTimeMillis
        yield* World.passing(Replay.run(pipeline, options))
        const perSecond = 200 / ((yield* Clock.currentTimeMillis) - began) * 1_000
        // The group joins, leaves and is held within these figures.
        assert.isAtMost(perSecond, 10, `${together} together`)
        assert.isAbove(perSecond, 7, `${together} together`)
        assert.lengthOf(yield* out, 400)
      }))))

  it.effect("that would write rows twice is refused, and so is a shadow of what writes rows", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 4))
      const rows = (idempotentBy: string | undefined) =>
        Pipeline.make(
          "rows",
          Ingest.topic(Payments).pipe(Decode.schema, Failures.routeAll(DeadLetter.to(Dlt))),
          { ...Guarantee.exactlyOnce(), sink: { name: "Rows", idempotentBy } } as Pipeline.Guarantee<
            unknown,
            Kafka.Cluster
          >,
        )
      assert.deepStrictEqual(yield* reasons(rows(undefined), { from: earliest }), ["Sink"])
      assert.deepStrictEqual(yield* reasons(rows("table rows by id"), { from: earliest }), [])
      const plan = yield* World.passing(Replay.plan(rows("table rows by id"), { from: earliest }))
      assert.deepStrictEqual(Replay.shadowRefusals(plan).map(({ reason }) => reason), ["Sink"])
    })))

  it.effect("of records that wait between parts of a pipeline is refused", () =>
    World.world(topics)(Effect.gen(function* () {
      yield* Simulation.feed(payments(0, 4))
      const pipeline = totals(({ cents }) => cents)
      yield* World.process(pipeline)
      yield* Simulation.feed(payments(4, 8).map((one) => ({ ...one, topic: "payments.by-customer" })))
      assert.include(yield* reasons(pipeline, { from: earliest, resetState: true }), "Pending")
    })))

  it("reads where it begins", () => {
    assert.deepStrictEqual(Replay.parse("earliest"), Result.succeed(Replay.earliest))
    assert.deepStrictEqual(
      Replay.parse("2026-05-17T10:00:00Z"),
      Result.succeed(Replay.time(Date.parse("2026-05-17T10:00:00Z"))),
    )
    const two = Replay.offsets(new Map([["a.b", new Map([[0, 12], [1, 9]])]]))
    assert.deepStrictEqual(Replay.parse("a.b:0:12, a.b:1:9"), Result.succeed(two))
    assert.deepStrictEqual(Replay.parseFile('{ "a.b": { "0": 12, "1": 9 } }'), Result.succeed(two))
    for (const wrong of ["yesterday", "a:b", "a:0:-1", "2026-05-17T10:00:00"]) {
      assert.isTrue(Result.isFailure(Replay.parse(wrong)), wrong)
    }
    assert.isTrue(Result.isFailure(Replay.parseFile('{ "a": 1 }')))
  })
})
