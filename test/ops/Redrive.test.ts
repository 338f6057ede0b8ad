/** Dead letters are sent again once: over crashes at every step, beside others that do the same, and however often it is asked. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Admin, Topic } from "../../src/index.ts"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Redrive from "../../src/ops/Redrive.ts"
import * as Contract from "../kafka/contract/Harness.ts"
import { forSeeds } from "../support/Seeds.ts"
import * as Simulation from "../support/Simulation.ts"

const about = { owner: "tests", description: "Test" }
const Orders = Topic.bytes({ ...about, name: "orders", partitions: 2, retention: "7 days" })
const Dlt = Topic.bytes({ ...about, name: "orders.dlt", partitions: 2, retention: "14 days" })

const now = Date.parse("2026-01-01T00:00:00Z")
const day = 86_400_000

interface Written {
  readonly n: number
  readonly key?: string | null
  readonly reason?: string
  readonly age?: number
  readonly origin?: string | null
  readonly own?: Readonly<Record<string, string>>
  readonly about?: Readonly<Record<string, string>>
}

const int = (bytes: 4 | 8, n: number) => {
  const buffer = Buffer.alloc(bytes)
  if (bytes === 4) buffer.writeInt32BE(n)
  else buffer.writeBigInt64BE(BigInt(n))
  return buffer
}

const texts = (headers: Readonly<Record<string, string>> = {}) =>
  Object.entries(headers).map(([name, value]) => [name, Buffer.from(value)] as const)

/** Writes a dead letter as `DeadLetter.to` does. */
const write = ({ n, key = `key-${n % 3}`, reason = "Down", age = 60_000, origin = "orders", own, about }: Written) =>
  ClusterMemory.Control.use((control) =>
    control.append({ topic: Dlt.name, partition: n % 2 }, {
      keys: [key === null ? null : Buffer.from(key)],
      values: [Buffer.from(JSON.stringify({ n }))],
      timestamps: [now - 1_000 + n],
      headers: [[
        ...texts({ trace: `t${n}`, ...own }),
        ...origin === null ? [] : [
          ["kafka_dlt-original-topic", Buffer.from(origin)] as const,
          ["kafka_dlt-original-partition", int(4, n % 2)] as const,
          ["kafka_dlt-original-offset", int(8, 100 + n)] as const,
          ["kafka_dlt-original-timestamp", int(8, now - age)] as const,
        ],
        ...texts({ "millrace-reason": reason, "millrace-program": "test", ...about }),
      ]],
    })
  )

const setUp = (letters: ReadonlyArray<Written>, topics: ReadonlyArray<Topic.Any> = [Orders, Dlt]) =>
  Effect.gen(function* () {
    yield* TestClock.setTime(now)
    yield* Admin.createTopics(topics)
    for (const letter of letters) yield* write(letter)
  })

const many = Array.from({ length: 24 }, (_, n): Written => ({ n }))

/** What stands in the topic of orders: numbers by partition. */
const sent = Effect.gen(function* () {
  const records = yield* ClusterMemory.Control.use((control) => control.records("orders"))
  return [0, 1].map((partition) =>
    records.filter((record) => record.partition === partition)
      .map(({ value }) => (JSON.parse(Topic.text(value!)) as { n: number }).n)
  )
})

const everyOne = [0, 1].map((partition) => many.map(({ n }) => n).filter((n) => n % 2 === partition))

/** Lets the clock run until it has ended. */
const running = <A, E, R>(what: string, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* Simulation.until(what, Effect.sync(() => fiber.pollUnsafe() !== undefined), 600_000)
    return yield* Fiber.join(fiber)
  })

const send = (selection: Redrive.Selection = {}, options?: Redrive.Options) =>
  running("a redrive", Redrive.send(Dlt.name, selection, options))

/** A process of its own, that reaches the brokers through faults. */
const process = (plan: Faults.Plan, options?: Redrive.Options) =>
  Effect.gen(function* () {
    const context = yield* Layer.build(Layer.fresh(Faults.layer))
    const faults = yield* Effect.provideContext(Faults.Faults, context)
    yield* faults.use(plan)
    const fiber = yield* Effect.forkDetach(Effect.provideContext(Redrive.send(Dlt.name, {}, options), context))
    return { fiber, calls: faults.calls }
  })

const test = (
  name: string,
  run: Effect.Effect<void, unknown, Cluster | ClusterMemory.Control | Scope.Scope>,
  options?: ClusterMemory.Options,
) =>
  it.effect(name, () => Effect.provide(run, Layer.fresh(ClusterMemory.layer(options))) as Effect.Effect<void, unknown>)

/** Requests that are repeated for as long as a transaction may take. */
const patient: ReadonlySet<Faults.Operation> = new Set(["InitProducerId", "AddPartitionsToTxn", "Produce", "EndTxn"])

const plain = (report: Redrive.Report) => ({
  selected: report.selected,
  sent: Object.fromEntries(report.sent),
  before: report.before,
  refused: Object.fromEntries(report.refused),
})

describe("A redrive", () => {
  test(
    "keeps key, headers, partition and time, and says how often and from where",
    Effect.gen(function* () {
      yield* setUp([{ n: 1, own: { twice: "a" } }])
      yield* send()
      const records = yield* ClusterMemory.Control.use((control) => control.records("orders"))
      assert.strictEqual(records.length, 1)
      const [{ partition, key, value, timestamp, headers }] = records as [ClusterMemory.TopicRecord]
      assert.deepStrictEqual([partition, Topic.text(key!), Topic.text(value!)], [1, "key-1", '{"n":1}'])
      assert.strictEqual(timestamp, now - 60_000)
      assert.deepStrictEqual(headers.map(([name, value]) => [name, Topic.text(value)]), [
        ["trace", "t1"],
        ["twice", "a"],
        ["millrace-redrive-attempts", "1"],
        ["millrace-redrive-origin", "orders:1:101"],
      ])
    }),
  )

  test(
    "changes nothing when it is repeated",
    Effect.gen(function* () {
      yield* setUp(many)
      assert.deepStrictEqual(plain(yield* send()), { selected: 24, sent: { orders: 24 }, before: 0, refused: {} })
      assert.deepStrictEqual(plain(yield* send()), { selected: 24, sent: {}, before: 24, refused: {} })
      assert.deepStrictEqual(yield* sent, everyOne)
    }),
  )

  test(
    "selects by reason, time and key, and at most as many as allowed, oldest first in each partition",
    Effect.gen(function* () {
      yield* setUp(many.map((letter) => ({ ...letter, reason: letter.n < 12 ? "Down" : "Wrong" })))
      const planned = yield* running("a plan", Redrive.plan(Dlt.name, { reasons: ["Wrong"] }, { max: 5 }))
      assert.deepStrictEqual(plain(planned).sent, { orders: 5 })
      assert.isTrue(planned.isCutOff)
      assert.deepStrictEqual(yield* sent, [[], []])
      yield* send({ reasons: ["Wrong"] }, { max: 5 })
      assert.deepStrictEqual(yield* sent, [[12, 14, 16, 18, 20], []])
      yield* send({ reasons: ["Down"], key: "key-0", since: now - 1_000 + 3, until: now - 1_000 + 9 })
      assert.deepStrictEqual(yield* sent, [[12, 14, 16, 18, 20, 6], [3]])
      yield* send()
      assert.deepStrictEqual((yield* sent).map((all) => all.toSorted((a, b) => a - b)), everyOne)
    }),
  )

  test(
    "quarantines what has come back too often, once, until more attempts are allowed",
    Effect.gen(function* () {
      const attempts = (n: number) => ({
        "millrace-redrive-attempts": String(n),
        "millrace-redrive-origin": "orders:0:7",
      })
      yield* setUp([{ n: 0, own: attempts(4) }, { n: 2, own: attempts(5) }])
      const first = yield* send()
      assert.deepStrictEqual([plain(first).sent, first.quarantined, first.quarantinedNow], [{ orders: 1 }, 1, 1])
      const second = yield* send()
      assert.deepStrictEqual([plain(second).sent, second.quarantined, second.quarantinedNow], [{}, 1, 0])
      const listed = yield* running("a list", Redrive.list(Dlt.name))
      assert.deepStrictEqual(listed.map(({ letters, redriven, quarantined }) => [letters, redriven, quarantined]), [
        [2, 1, 1],
      ])
      yield* send({}, { maxAttempts: 6 })
      assert.deepStrictEqual(yield* sent, [[0, 2], []])
      const records = yield* ClusterMemory.Control.use((control) => control.records("orders"))
      const origins = records.map(({ headers }) => Topic.text(headers.at(-1)![1]))
      assert.deepStrictEqual(origins, ["orders:0:7", "orders:0:7"])
    }),
  )

  test(
    "refuses by name what cannot be sent, and sends the rest",
    Effect.gen(function* () {
      const compacted = Topic.bytes({
        ...about,
        name: "table",
        partitions: 2,
        cleanup: "compact",
        key: ["id", () => null],
      })
      const narrow = Topic.bytes({ ...about, name: "narrow", partitions: 1, maxMessageBytes: 200 })
      yield* setUp([
        { n: 0 },
        { n: 2, origin: null },
        { n: 4, about: { "millrace-truncated-length": "5000000" } },
        { n: 6, about: { "millrace-made": "true" } },
        { n: 8, origin: "gone" },
        { n: 9, origin: "narrow" },
        { n: 10, origin: "table" },
        { n: 12, origin: "narrow", own: { large: "x".repeat(300) } },
        { n: 14 },
      ], [Orders, Dlt, compacted, narrow])
      const { sent: to, refused } = plain(yield* send())
      assert.deepStrictEqual(to, { orders: 2 })
      assert.deepStrictEqual(refused, { NoOrigin: 1, Truncated: 1, Result: 1, NoTopic: 2, Compacted: 1, Refused: 1 })
      assert.deepStrictEqual(yield* sent, [[0, 14], []])
    }),
  )

  test(
    "gives a record the time of now where its topic would delete it soon",
    Effect.gen(function* () {
      yield* setUp([{ n: 0, age: 6 * day }, { n: 2, age: 6.5 * day }, { n: 4, age: -2 * day }])
      const { restamped } = yield* send()
      assert.strictEqual(restamped, 2)
      const records = yield* ClusterMemory.Control.use((control) => control.records("orders"))
      assert.strictEqual(records[0]!.timestamp, now - 6 * day)
      for (const { timestamp } of records.slice(1)) assert.isAtLeast(timestamp, now)
    }),
  )

  test(
    "keeps to a rate",
    Effect.gen(function* () {
      yield* setUp(many)
      const fiber = yield* Effect.forkChild(Redrive.send(Dlt.name, {}, { rate: 2 }))
      for (let i = 0; i < 60; i++) yield* TestClock.adjust(100)
      const half = (yield* sent).flat().length
      assert.isAtLeast(half, 10)
      assert.isAtMost(half, 16)
      yield* Simulation.until("the rest", Effect.sync(() => fiber.pollUnsafe() !== undefined))
      assert.deepStrictEqual(yield* sent, everyOne)
    }),
  )

  test(
    "knows letters of a topic that was made anew from those before, and forgets what it knew of these",
    Effect.gen(function* () {
      yield* setUp([{ n: 0 }])
      yield* send()
      yield* Cluster.use((cluster) => cluster.deleteTopics([Dlt.name]))
      yield* Admin.createTopics([Dlt])
      yield* write({ n: 0 })
      yield* send()
      assert.deepStrictEqual(yield* sent, [[0, 0], []])
      const control = yield* ClusterMemory.Control
      yield* control.expire
      const marks = (yield* control.records("orders.dlt.redriven")).filter(({ value }) => value !== null)
      assert.strictEqual(marks.length, 1)
    }),
  )

  test(
    "says that there is no such topic, and no such letter",
    Effect.gen(function* () {
      yield* setUp([{ n: 0 }])
      const missing = yield* Effect.flip(running("a redrive", Redrive.send("nothing.dlt", {})))
      assert.strictEqual(missing.reason, "Unknown")
      const absent = yield* Effect.flip(running("a show", Redrive.show(Dlt.name, 0, 7)))
      assert.strictEqual(absent.reason, "Unknown")
      assert.deepStrictEqual(yield* running("topics", Redrive.topics), ["orders.dlt"])
    }),
  )

  test(
    "that is stopped leaves nothing open, and can be gone on with",
    Effect.gen(function* () {
      yield* setUp(many)
      let isStopped = false
      const stopping = Faults.at("EndTxn", 1, Faults.silence("20 seconds"))
      const { fiber } = yield* process({
        start: () => {
          const decide = stopping.start()
          return (call) => {
            const fault = decide(call)
            isStopped ||= fault !== undefined
            return fault
          }
        },
      })
      yield* Simulation.until("a transaction", Effect.sync(() => isStopped))
      const control = yield* ClusterMemory.Control
      assert.strictEqual((yield* control.openTransactions).length, 1)
      yield* running("a stop", Fiber.interrupt(fiber))
      assert.deepStrictEqual(yield* control.openTransactions, [])
      assert.deepStrictEqual(plain(yield* send()).sent, { orders: 24 })
      assert.deepStrictEqual(yield* sent, everyOne)
    }),
  )

  it.effect("sends every letter once, whatever step it dies at, or hears nothing of", () =>
    Effect.gen(function* () {
      const through = (fault: (kill: Effect.Effect<void>) => Faults.Plan) =>
        Effect.scoped(Effect.gen(function* () {
          yield* setUp(many)
          let killed = false
          const first = yield* process(fault(Effect.sync(() => killed = true)), { rate: 8 })
          const isOver = Effect.sync(() => killed || first.fiber.pollUnsafe() !== undefined)
          yield* Simulation.until("the first", isOver, 600_000)
          yield* Effect.forkDetach(Fiber.interrupt(first.fiber))
          yield* send()
          yield* Simulation.pass(200)
          const sentOnce = yield* sent
          const again = yield* send()
          assert.strictEqual(again.before, 24)
          yield* Simulation.pass(200)
          assert.deepStrictEqual(yield* sent, sentOnce)
          return { sent: sentOnce, calls: yield* first.calls }
        })).pipe(Effect.provide(Layer.fresh(ClusterMemory.layer({ markerDelay: "20 millis" }))))
      const { calls } = yield* through(() => Faults.none)
      const steps = calls.filter(({ operation }) => operation !== "Fetch")
      assert.isAbove(steps.length, 10)
      const faults: ReadonlyArray<readonly [string, (kill: Effect.Effect<void>) => Faults.Fault]> = [
        ["dies before", Faults.crash],
        ["dies after", Faults.crashAfter],
        ["does not reach", () => Faults.unreachable],
        ["does not hear", () => Faults.loseAnswer],
        ["waits in vain after", () => Faults.silenceAfter("30 seconds")],
      ]
      for (const { operation, count } of steps) {
        for (const [name, fault] of patient.has(operation) ? faults : faults.slice(0, 4)) {
          const { sent } = yield* through((kill) => Faults.at(operation, count, fault(kill)))
          assert.deepStrictEqual(sent, everyOne, `${name} ${operation} ${count}`)
        }
      }
    }))

  it.effect("sends every letter once where several are sent at the same time, over networks that lose and delay", () =>
    forSeeds(12, (dice) =>
      Effect.scoped(Effect.gen(function* () {
        yield* setUp(many)
        const faulty = () => Faults.random(dice.int(1, 1e9), { refuse: 0.05, loseAnswer: 0.05, delay: 0.2, late: 0.03 })
        const fibers: Array<Fiber.Fiber<Redrive.Report, Redrive.RedriveError>> = []
        for (let i = 0; i < 4; i++) {
          fibers.push((yield* process(faulty(), { rate: dice.pick([20, 200]) })).fiber)
          yield* Simulation.pass(dice.pick([0, 20, 200, 2_000]))
        }
        yield* Simulation.until(
          "all of them",
          Effect.sync(() => fibers.every((fiber) => fiber.pollUnsafe() !== undefined)),
          900_000,
        )
        yield* Simulation.pass(5_000)
        yield* send()
        yield* Simulation.pass(5_000)
        assert.deepStrictEqual((yield* sent).map((all) => all.toSorted((a, b) => a - b)), everyOne)
      })).pipe(Effect.provide(Layer.fresh(ClusterMemory.layer({ markerDelay: "20 millis" }))))))

  test(
    "shows nothing of a record unless it is asked to: not what other writers quote of it, nor headers that nobody knows",
    Effect.gen(function* () {
      const about = {
        "kafka_dlt-exception-fqcn": "org.example.Unreadable",
        "kafka_dlt-exception-message": "cannot read ann@example.com",
        "kafka_dlt-exception-stacktrace": "at ann@example.com",
        "x-customer": "ann@example.com",
        "millrace-stage-key": "ann@example.com",
      }
      const own = { mail: "ann@example.com", "millrace-redrive-attempts": "2" }
      yield* setUp([{ n: 1, key: "ann@example.com", own, about }])
      assert.deepStrictEqual((yield* Redrive.list(Dlt.name))[0]!.lastAt, { partition: 1, offset: 0 })
      const letter = yield* Redrive.show(Dlt.name, 1, 0)
      const shown = JSON.stringify(Redrive.masked(letter))
      assert.notInclude(shown, "ann@")
      assert.include(shown, "org.example.Unreadable")
      assert.include(shown, '["millrace-redrive-attempts","2"]')
      assert.include(shown, '"kafka_dlt-original-offset":101')
      const { key, about: said } = Redrive.unmasked(letter)
      assert.deepStrictEqual([key, said["x-customer"]], ["ann@example.com", "ann@example.com"])
      assert.strictEqual(Redrive.unmasked({ ...letter, key: Buffer.from("007") }).key, "007")
      assert.strictEqual(Redrive.unmasked({ ...letter, key: Buffer.from("null") }).key, "null")
    }),
  )

  test(
    "counts every letter that is selected in one of its figures, also where no more are allowed",
    Effect.gen(function* () {
      yield* setUp(many)
      yield* send({}, { max: 3 })
      const { selected, sent, before, isCutOff } = yield* send({}, { max: 5 })
      assert.deepStrictEqual([selected, sent.get("orders"), before, isCutOff], [8, 5, 3, true])
    }),
  )

  test(
    "means by a key that very key, also where it is no text",
    Effect.gen(function* () {
      yield* setUp([])
      const control = yield* ClusterMemory.Control
      const keys = [Buffer.from([0x61, 0xff]), Buffer.from([0x61, 0xfe]), Buffer.from("a\ufffd")]
      for (const key of keys) {
        const about = { timestamps: [now], headers: [[["millrace-reason", Buffer.from("Down")] as const]] }
        yield* control.append({ topic: Dlt.name, partition: 0 }, { keys: [key], values: [Buffer.from("{}")], ...about })
      }
      for (const key of [keys[1]!, "a\ufffd"]) {
        assert.strictEqual((yield* running("a plan", Redrive.plan(Dlt.name, { key }))).selected, 1)
      }
    }),
  )

  test(
    "ends in time where somebody else's transaction holds its marks back, and sends nothing",
    Effect.gen(function* () {
      yield* setUp(many)
      yield* send({}, { max: 2 })
      const foreign = yield* Contract.transactor("somebody-else", 900_000)
      yield* foreign.begin(`${Dlt.name}.redriven`, 0)
      const records = { ...yield* Contract.recordsOf(["?"]), keys: [Buffer.from("?")] }
      const producer = { ...foreign.identity, baseSequence: 0 }
      const where = { topic: `${Dlt.name}.redriven`, partition: 0 }
      const [written] = yield* Contract.produce([{ ...where, records, producer }], "somebody-else")
      assert.isNull(written!.error)
      const began = yield* Clock.currentTimeMillis
      const error = yield* Effect.flip(send())
      assert.match(error.message, /orders.dlt.redriven partition 0 gives nothing .* a transaction that somebody else/)
      assert.isBelow((yield* Clock.currentTimeMillis) - began, 60_000)
      assert.lengthOf((yield* sent).flat(), 2)
    }),
  )

  test(
    "sends nothing where its marks would be deleted",
    Effect.gen(function* () {
      const marks = Topic.bytes({ ...about, name: `${Dlt.name}.redriven`, partitions: 1, retention: "1 day" })
      yield* setUp(many, [Orders, Dlt, marks])
      assert.match((yield* Effect.flip(send())).message, /it must be compact and nothing else/)
      assert.lengthOf((yield* sent).flat(), 0)
    }),
  )
})
