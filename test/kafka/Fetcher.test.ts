import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Buffer } from "node:buffer"
import { Cluster, type FetchRequest } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import * as Fetcher from "../../src/kafka/Fetcher.ts"
import * as Leaders from "../../src/kafka/Leaders.ts"
import { until } from "../support/Simulation.ts"

const topic = "t"
const size = 1_000

/** Batches of one record each, of `size` bytes. */
const append = (partition: number, batches: number) =>
  Effect.gen(function* () {
    const control = yield* ClusterMemory.Control
    for (let i = 0; i < batches; i++) {
      yield* control.append({ topic, partition }, {
        keys: [null],
        values: [Buffer.alloc(size, 1)],
        headers: [[]],
        timestamps: [0],
      })
    }
  })

/** Small, so that few records reach the bounds. */
const bounds = { fetchBytes: 4 * size, leastFetchBytes: size, maxBytesPerPartition: 8 * size, maxBytes: 100 * size }

/** A fetcher and what it asks the brokers. */
const fetching = Effect.fnUntraced(function* (partitions: number, options: Partial<Fetcher.Options> = {}) {
  const cluster = yield* Cluster
  yield* cluster.createTopics([{ topic, partitions, replicationFactor: 1, config: {} }])
  const requests: Array<FetchRequest> = []
  const fetch = (request: FetchRequest) => {
    requests.push(request)
    return cluster.fetch(request)
  }
  const leaders = yield* Leaders.make
  const fetcher = yield* Fetcher.make(leaders, { ...Fetcher.defaults, ...bounds, ...options }).pipe(
    Effect.provideService(Cluster, Cluster.of({ ...cluster, fetch })),
  )
  return { fetcher, asked: () => requests.splice(0).flatMap((request) => request.partitions) }
})

/** Takes what has been fetched and what comes within a while, releasing nothing. */
const drained = (reading: Fetcher.Reading) =>
  Effect.gen(function* () {
    let bytes = 0
    for (;;) {
      const next = yield* Effect.forkChild(reading.next)
      yield* TestClock.adjust("600 millis")
      if (next.pollUnsafe() === undefined) {
        yield* Fiber.interrupt(next)
        return bytes
      }
      bytes += (yield* Fiber.join(next)).size
    }
  })

/** Answers as a broker does whose log ends with records that compaction has removed. */
const withoutTail = (cluster: Cluster["Service"], from: number): Cluster["Service"] =>
  Cluster.of({
    ...cluster,
    fetch: (request) =>
      Effect.map(cluster.fetch(request), (answers) =>
        answers.map((answer) => ({
          ...answer,
          batches: answer.batches.filter(({ baseOffset }) => baseOffset < from),
        }))),
  })

const first = <A, E>(reading: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const next = yield* Effect.forkChild(Effect.exit(reading))
    yield* until("a fetch", Effect.sync(() => next.pollUnsafe() !== undefined))
    return yield* yield* Fiber.join(next)
  })

const test = <E>(
  name: string,
  body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Faults.Faults | Scope.Scope>,
) =>
  it.effect(
    name,
    () => Effect.provide(Effect.scoped(body), Layer.fresh(Layer.provideMerge(Faults.layer, ClusterMemory.layer()))),
  )

describe("Fetcher", () => {
  test(
    "passes over the end of a log that compaction has removed",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const { fetcher } = yield* Effect.provideService(fetching(1), Cluster, withoutTail(cluster, 2))
      yield* append(0, 4)
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      const records = yield* first(reading.next)
      assert.deepStrictEqual([...records.offsets], [0, 1])
      const gap = yield* first(reading.next)
      assert.deepStrictEqual([gap.length, gap.next], [0, 4])
      assert.isTrue(reading.isDry())
    }),
  )

  test(
    "stops reading a partition whose bytes are not released, and no other",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(2)
      yield* append(0, 30)
      yield* append(1, 30)
      const slow = yield* fetcher.read({ topic, partition: 0 }, 0)
      const fast = yield* fetcher.read({ topic, partition: 1 }, 0)
      let read = 0
      while (read < 30 * size) {
        const { size } = yield* first(fast.next)
        read += size
        fast.release(size)
      }
      const held = yield* drained(slow)
      assert.isAtLeast(held, bounds.maxBytesPerPartition)
      assert.isAtMost(held, bounds.maxBytesPerPartition + bounds.leastFetchBytes)
      slow.release(held)
      assert.isAbove(yield* drained(slow), 0)
    }),
  )

  test(
    "lets no partition take what all may hold, however much there is of it",
    Effect.gen(function* () {
      const { fetcher, asked } = yield* fetching(3, { maxBytes: 12 * size })
      yield* append(0, 60)
      const hot = yield* fetcher.read({ topic, partition: 0 }, 0)
      const held = yield* drained(hot)
      assert.isAtMost(held, bounds.maxBytesPerPartition + bounds.leastFetchBytes)
      asked()
      const others = [1, 2].map((partition) => ({ topic, partition }))
      for (const where of others) {
        yield* append(where.partition, 2)
        const other = yield* fetcher.read(where, 0)
        assert.isAbove((yield* first(other.next)).length, 0)
      }
      for (const one of asked()) assert.notStrictEqual(one.partition, 0)
    }),
  )

  test(
    "knows how long the log of a paused partition has become, without fetching from it",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(1)
      yield* append(0, 20)
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      yield* drained(reading)
      yield* append(0, 20)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(reading.end(), 40)
    }),
  )

  test(
    "holds no more than its bound and a little per partition, and reads what holds nothing all the same",
    Effect.gen(function* () {
      const maxBytes = 12 * size
      const { fetcher, asked } = yield* fetching(6, { maxBytes })
      for (let partition = 0; partition < 5; partition++) yield* append(partition, 30)
      const stuck: Array<Fetcher.Reading> = []
      for (let partition = 0; partition < 5; partition++) stuck.push(yield* fetcher.read({ topic, partition }, 0))
      let held = 0
      for (const reading of stuck) held += yield* drained(reading)
      assert.isAtLeast(held, maxBytes)
      assert.isAtMost(held, maxBytes + 6 * bounds.leastFetchBytes)
      asked()
      const healthy = yield* fetcher.read({ topic, partition: 5 }, 0)
      yield* append(5, 3)
      for (let i = 0; i < 3; i++) {
        const { size, length } = yield* first(healthy.next)
        assert.strictEqual(length, 1)
        healthy.release(size)
      }
      for (const one of asked()) {
        assert.strictEqual(one.partition, 5)
        assert.strictEqual(one.maxBytes, bounds.leastFetchBytes)
      }
    }),
  )

  test(
    "holds little of what is read aside, and asks as much of the others as without it",
    Effect.gen(function* () {
      const { fetcher, asked } = yield* fetching(6, { maxBytes: 8 * size })
      for (let partition = 0; partition < 6; partition++) yield* append(partition, 30)
      for (let partition = 0; partition < 5; partition++) {
        const aside = yield* fetcher.read({ topic, partition }, 0, true)
        const held = yield* drained(aside)
        assert.isAtLeast(held, bounds.leastFetchBytes)
        assert.isAtMost(held, 2 * bounds.leastFetchBytes)
      }
      asked()
      const reading = yield* fetcher.read({ topic, partition: 5 }, 0)
      assert.isAtLeast(yield* drained(reading), 8 * size)
      const { topicId: _, ...one } = asked()[0]!
      assert.deepStrictEqual(one, { topic, partition: 5, offset: 0, maxBytes: bounds.fetchBytes })
    }),
  )

  test(
    "an answer that comes after the reading has ended takes nothing of the bound",
    Effect.gen(function* () {
      const { fetcher, asked } = yield* fetching(2, { maxBytes: bounds.fetchBytes })
      const faults = yield* Faults.Faults
      yield* append(0, 8)
      const scope = yield* Scope.make()
      yield* faults.use(Faults.at("Fetch", 1, Faults.delay("1 second")))
      yield* Scope.provide(fetcher.read({ topic, partition: 0 }, 0), scope)
      yield* TestClock.adjust("500 millis")
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("2 seconds")
      yield* append(1, 1)
      asked()
      const other = yield* fetcher.read({ topic, partition: 1 }, 0)
      assert.strictEqual((yield* first(other.next)).length, 1)
      assert.strictEqual(asked()[0]!.maxBytes, bounds.fetchBytes)
    }),
  )

  for (const reset of ["earliest", "latest"] as const) {
    test(
      `goes on at the ${reset} offset where its position is no longer in the log, also while it reads`,
      Effect.gen(function* () {
        const control = yield* ClusterMemory.Control
        const { fetcher } = yield* fetching(1, { reset })
        const where = { topic, partition: 0 }
        yield* append(0, 3)
        const reading = yield* fetcher.read(where, 99)
        yield* TestClock.adjust("1 second")
        yield* append(0, 3)
        const { offsets, size } = yield* first(reading.next)
        assert.strictEqual(offsets[0], reset === "earliest" ? 0 : 3)
        reading.release(size)
        yield* drained(reading)
        yield* control.truncate(where, 2)
        yield* TestClock.adjust("1 second")
        yield* append(0, 2)
        const again = yield* first(reading.next)
        assert.strictEqual(again.offsets[0], reset === "earliest" ? 0 : 2)
      }),
    )
  }

  test(
    'fails where its position is not in the log and the policy is "fail", and leaves the others alone',
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(2, { reset: "fail" })
      yield* append(0, 3)
      yield* append(1, 3)
      const lost = yield* fetcher.read({ topic, partition: 0 }, 99)
      const kept = yield* fetcher.read({ topic, partition: 1 }, 0)
      const error = yield* Effect.flip(first(lost.next))
      assert.strictEqual(error.code, "OFFSET_OUT_OF_RANGE")
      assert.match(error.message, /^topic t partition 0: position 99 is above the end of the log, 3/)
      assert.isAbove((yield* first(kept.next)).length, 0)
    }),
  )

  /** A log of 6 records of which retention has taken the first ones. */
  const shortened = Effect.gen(function* () {
    const cluster = yield* Cluster
    const control = yield* ClusterMemory.Control
    const config = { "retention.ms": "60000" }
    yield* cluster.createTopics([{ topic, partitions: 1, replicationFactor: 1, config }])
    yield* append(0, 4)
    yield* TestClock.adjust("2 minutes")
    yield* control.expire
    yield* append(0, 2)
    const [start] = yield* cluster.listOffsets([{ topic, partition: 0 }], "earliest", "read_committed")
    assert.isAbove(start!.offset, 2)
    return start!.offset
  })

  const countLost = Effect.map(
    Metric.snapshot,
    (all) =>
      all.filter(({ id }) => id === "millrace_records_lost_total")
        .reduce((sum, { state }) => sum + Number((state as { readonly count: number | bigint }).count), 0),
  )

  for (const reset of ["earliest", "latest", "fail"] as const) {
    test(
      `counts what retention has taken before it was read, under the policy "${reset}"`,
      Effect.gen(function* () {
        const start = yield* shortened
        const { fetcher } = yield* fetching(1, { reset })
        const before = yield* countLost
        const reading = yield* fetcher.read({ topic, partition: 0 }, 1)
        yield* TestClock.adjust("1 second")
        if (reset === "fail") {
          const error = yield* Effect.flip(first(reading.next))
          assert.strictEqual(error.code, "OFFSET_OUT_OF_RANGE")
          assert.include(
            error.message,
            `position 1 is not in the log and the reset policy is "fail": it begins at ${start}`,
          )
          assert.strictEqual((yield* countLost) - before, 0)
          return
        }
        yield* append(0, 1)
        const { offsets } = yield* first(reading.next)
        assert.strictEqual(offsets[0], reset === "earliest" ? start : 6)
        assert.strictEqual((yield* countLost) - before, offsets[0]! - 1)
      }),
    )
  }

  test(
    "fails above the end of the log where told to, whatever the policy says, and not below its start",
    Effect.gen(function* () {
      const start = yield* shortened
      const { fetcher } = yield* fetching(1)
      const above = yield* Effect.scoped(Effect.gen(function* () {
        const reading = yield* fetcher.read({ topic, partition: 0 }, 7, false, { failsAbove: true })
        return yield* Effect.flip(first(reading.next))
      }))
      assert.strictEqual(above.code, "OFFSET_OUT_OF_RANGE")
      assert.include(above.message, "topic t partition 0: position 7 is above the end of the log, 6: brokers have lost")
      const below = yield* fetcher.read({ topic, partition: 0 }, 0, false, { failsAbove: true })
      assert.strictEqual((yield* first(below.next)).offsets[0], start)
    }),
  )

  for (const given of [true, false]) {
    test(
      `fails where the topic was deleted and created again ${given ? "before it reads" : "while it reads"}`,
      Effect.gen(function* () {
        const cluster = yield* Cluster
        const { fetcher } = yield* fetching(1)
        yield* append(0, 3)
        const { topics: [was] } = yield* cluster.metadata([topic])
        const again = Effect.gen(function* () {
          yield* cluster.deleteTopics([topic])
          yield* TestClock.adjust("10 seconds")
          yield* cluster.createTopics([{ topic, partitions: 1, replicationFactor: 1, config: {} }])
          yield* append(0, 9)
        })
        if (given) yield* again
        const reading = yield* fetcher.read({ topic, partition: 0 }, 1, false, given ? { topicId: was!.id } : {})
        if (!given) {
          const { offsets, next } = yield* first(reading.next)
          assert.deepStrictEqual([offsets[0], next], [1, 3])
          yield* again
        }
        const error = yield* Effect.flip(first(reading.next))
        const { topics: [now] } = yield* cluster.metadata([topic])
        assert.strictEqual(error.code, "TOPIC_REPLACED")
        assert.include(
          error.message,
          `topic t was deleted and created again: positions are those of the topic with the id`,
        )
        assert.include(error.message, was!.id)
        assert.include(error.message, now!.id)
      }),
    )
  }

  const damage = Faults.refusePartitions("CORRUPT_MESSAGE", ({ partition }) => partition === 0)
  test(
    "reads what is damaged again, and goes on where it is whole then",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(2)
      const faults = yield* Faults.Faults
      yield* append(0, 3)
      yield* append(1, 3)
      yield* faults.use({
        start: () => (call) => call.operation === "Fetch" && call.count <= 10 ? damage : undefined,
      })
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      assert.deepStrictEqual([...(yield* first(reading.next)).offsets], [0, 1, 2])
    }),
  )

  test(
    "fails where what is damaged stays so, passes nothing over, and leaves the others alone",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(2)
      const faults = yield* Faults.Faults
      yield* append(0, 3)
      yield* append(1, 3)
      yield* faults.use(Faults.every(({ operation }) => operation === "Fetch", damage))
      const broken = yield* fetcher.read({ topic, partition: 0 }, 1)
      const whole = yield* fetcher.read({ topic, partition: 1 }, 0)
      const error = yield* Effect.flip(first(broken.next))
      assert.strictEqual(error.code, "UNREADABLE")
      assert.match(error.message, /^topic t partition 0: from offset 1 on, CORRUPT_MESSAGE, and was read 20 times/)
      assert.isAbove((yield* first(whole.next)).length, 0)
    }),
  )

  test(
    "reads what is damaged again as often after it was refused for another reason for long",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(1)
      const faults = yield* Faults.Faults
      yield* append(0, 3)
      yield* faults.use({
        start: () => ({ operation, count }) =>
          operation !== "Fetch" || count > 45
            ? undefined
            : count <= 30
            ? Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER")
            : damage,
      })
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      assert.deepStrictEqual([...(yield* first(reading.next)).offsets], [0, 1, 2])
    }),
  )

  test(
    "waits once for all partitions that are refused in one answer",
    Effect.gen(function* () {
      const partitions = 20
      const { fetcher } = yield* fetching(partitions)
      const faults = yield* Faults.Faults
      for (let partition = 0; partition < partitions; partition++) yield* append(partition, 1)
      const last = partitions - 1
      yield* faults.use(Faults.every(
        ({ operation }) => operation === "Fetch",
        Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER", ({ partition }) => partition !== last),
      ))
      for (let partition = 0; partition < last; partition++) yield* fetcher.read({ topic, partition }, 0)
      yield* TestClock.adjust("1 second")
      const whole = yield* fetcher.read({ topic, partition: last }, 0)
      const next = yield* Effect.forkChild(whole.next)
      for (let i = 0; i < 40; i++) yield* TestClock.adjust("10 millis")
      assert.isDefined(next.pollUnsafe())
    }),
  )

  test(
    "takes an answer that has more than it says to be decided for what it is, and asks again at once",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      let isEarly = true
      const early = Cluster.of({
        ...cluster,
        fetch: (request) =>
          Effect.map(cluster.fetch(request), (answers) =>
            answers.map((answer) => {
              if (!isEarly || answer.batches.length === 0) return answer
              isEarly = false
              return { ...answer, lastStableOffset: 0 }
            })),
      })
      const { fetcher } = yield* Effect.provideService(fetching(1), Cluster, early)
      yield* append(0, 1)
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      const next = yield* Effect.forkChild(reading.next)
      for (let i = 0; i < 5; i++) yield* TestClock.adjust("1 millis")
      assert.isDefined(next.pollUnsafe())
    }),
  )

  test(
    "fails where a batch says that it is elsewhere than the log can be",
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const displaced = Cluster.of({
        ...cluster,
        fetch: (request) =>
          Effect.map(cluster.fetch(request), (answers) =>
            answers.map((answer) => ({
              ...answer,
              batches: answer.batches.map((batch) => ({ ...batch, baseOffset: 4_096, lastOffset: 4_096 })),
            }))),
      })
      const { fetcher } = yield* Effect.provideService(fetching(1), Cluster, displaced)
      yield* append(0, 1)
      const reading = yield* fetcher.read({ topic, partition: 0 }, 0)
      const error = yield* Effect.flip(first(reading.next))
      assert.strictEqual(error.code, "UNREADABLE")
      assert.include(error.message, "the batch says that it begins at offset 4096, and the log is decided up to 1")
    }),
  )

  test(
    "fails where the brokers refuse a partition for good, and goes on where they refuse it for a time",
    Effect.gen(function* () {
      const { fetcher } = yield* fetching(2)
      const faults = yield* Faults.Faults
      yield* append(0, 1)
      yield* append(1, 1)
      yield* faults.use(Faults.all(
        Faults.nth(
          1,
          ({ operation }) => operation === "Fetch",
          Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER"),
        ),
        Faults.every(
          ({ operation }) => operation === "Fetch",
          Faults.refusePartitions("TOPIC_AUTHORIZATION_FAILED", ({ partition }) => partition === 0),
        ),
      ))
      const refused = yield* fetcher.read({ topic, partition: 0 }, 0)
      const read = yield* fetcher.read({ topic, partition: 1 }, 0)
      assert.strictEqual((yield* Effect.flip(first(refused.next))).code, "TOPIC_AUTHORIZATION_FAILED")
      assert.strictEqual((yield* first(read.next)).length, 1)
    }),
  )

  it.effect("leaves a broker that hangs for the one that has taken over from it", () =>
    Effect.gen(function* () {
      const cluster = yield* Cluster
      const control = yield* ClusterMemory.Control
      let hung = false
      const hanging = Cluster.of({
        ...cluster,
        fetch: (request) => hung && request.node === 1 ? Effect.never : cluster.fetch(request),
      })
      const { fetcher } = yield* Effect.provideService(fetching(1), Cluster, hanging)
      const where = { topic, partition: 0 }
      yield* control.lead(where, 1)
      yield* append(0, 1)
      const reading = yield* fetcher.read(where, 0)
      assert.strictEqual((yield* first(reading.next)).length, 1)
      hung = true
      yield* TestClock.adjust("10 seconds")
      yield* control.lead(where, 2)
      yield* append(0, 1)
      const next = yield* Effect.forkChild(reading.next)
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(next.pollUnsafe())
      assert.deepStrictEqual([...(yield* Fiber.join(next)).offsets], [1])
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(ClusterMemory.layer({ nodes: 2 })))))
})
