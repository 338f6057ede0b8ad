import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Log } from "../../../src/kafka/memory/Log.ts"
import { Retention } from "../../../src/kafka/memory/Retention.ts"
import { Timers } from "../../../src/kafka/memory/Timers.ts"
import type { Settings } from "../../../src/kafka/memory/TopicConfig.ts"
import { text } from "../../../src/Topic.ts"
import { forSeeds } from "../../support/Seeds.ts"
import { newLog, records } from "./Fixtures.ts"

const minute = 60_000

/** A log whose retention looks every 5 minutes. */
const kept = (settings: Settings) => {
  const log = newLog(settings)
  const timers = new Timers()
  const retention = new Retention(log, timers, 5 * minute)
  return {
    log,
    timers,
    retention,
    append: (
      value: string | null,
      now: number,
      options: { readonly key?: string; readonly timestamp?: number } = {},
    ) => {
      timers.advance(now)
      log.append(records([value], options.timestamp ?? now, options.key ?? null), undefined, false, now)
      retention.appended(now)
    },
  }
}

const contents = (log: Log): ReadonlyArray<string> =>
  log.segments.flatMap((segment) => {
    const { keys, bytes, offsets } = log.committed(segment)
    return keys.map((key, i) =>
      `${offsets[i]} ${key === null ? "" : text(key)}=${bytes[i] === null ? "null" : text(bytes[i]!).slice(0, 10)}`
    )
  })

const large = "x".repeat(40_000)

describe("Retention", () => {
  it("drops segments whose youngest record is older than retention.ms, at the next look", () => {
    const { log, timers, append } = kept({ "retention.ms": `${60 * minute}` })
    append("a", 0)
    append("b", 10 * minute)
    log.roll()
    append("c", 50 * minute)
    timers.advance(70 * minute)
    assert.strictEqual(log.start, 0)
    timers.advance(75 * minute)
    assert.deepStrictEqual([log.start, contents(log)], [2, ["2 =c"]])
    timers.advance(200 * minute)
    assert.deepStrictEqual([log.start, log.end, contents(log), log.size], [3, 3, [], 0])
    assert.strictEqual(timers.next, Infinity, "nothing is left to look for")
    append("d", 201 * minute)
    assert.deepStrictEqual(contents(log), ["3 =d"])
  })

  it("goes by the records' own timestamps: old ones go at once, and nothing goes without a limit", () => {
    const old = kept({})
    old.append("a", 20_000 * 86_400_000, { timestamp: 1_000 })
    old.timers.advance(20_000 * 86_400_000 + 5 * minute)
    assert.deepStrictEqual(contents(old.log), [])
    const endless = kept({ "retention.ms": "-1" })
    endless.append("a", 20_000 * 86_400_000, { timestamp: 1_000 })
    endless.timers.advance(90_000 * 86_400_000)
    assert.deepStrictEqual(contents(endless.log), ["0 =a"])
  })

  it("keeps a log within retention.bytes and one segment, at every append", () => {
    const limit = 2_000_000
    const { log, append } = kept({ "retention.bytes": `${limit}`, "retention.ms": "-1" })
    for (let i = 0; i < 500; i++) {
      append(large, i)
      assert.isAtMost(log.size, limit + limit / 16 + 41_000)
    }
    assert.isAtLeast(log.size, limit)
    assert.isAbove(log.start, 400)
    assert.throws(() => log.read(log.start - 1, 1, true), /not in the log/)
    assert.strictEqual(log.read(log.start, 1, true).batches[0]!.baseOffset, log.start)
  })

  it("compaction keeps the last value of each key at its offset, but not in the active segment", () => {
    const { log, retention, append } = kept({ "cleanup.policy": "compact" })
    append("1", 0, { key: "a" })
    append("1", 0, { key: "b" })
    append("2", 0, { key: "a" })
    retention.run(1)
    append("3", 2, { key: "a" })
    append("4", 2, { key: "a" })
    assert.deepStrictEqual(contents(log), ["1 b=1", "2 a=2", "3 a=3", "4 a=4"])
    assert.deepStrictEqual([log.start, log.end], [0, 5])
    const { batches } = log.read(0, 1_000, true)
    assert.strictEqual(batches[0]!.baseOffset, 1)
    retention.run(3)
    assert.deepStrictEqual(contents(log), ["1 b=1", "4 a=4"])
  })

  it("compaction removes tombstones after delete.retention.ms", () => {
    const { log, timers, retention, append } = kept({
      "cleanup.policy": "compact",
      "delete.retention.ms": `${60 * minute}`,
    })
    append("1", 0, { key: "a" })
    append("1", 0, { key: "b" })
    append(null, 0, { key: "a" })
    retention.run(10 * minute)
    assert.deepStrictEqual(contents(log), ["1 b=1", "2 a=null"])
    timers.advance(65 * minute)
    assert.deepStrictEqual(contents(log), ["1 b=1", "2 a=null"])
    timers.advance(75 * minute)
    assert.deepStrictEqual(contents(log), ["1 b=1"])
  })

  it("compaction stops at an open transaction, and takes aborted records and markers away", () => {
    const { log, retention, append } = kept({ "cleanup.policy": "compact" })
    const transactional = (producerId: number, baseSequence: number, key: string, value: string) =>
      log.append(records([value], 0, key), { producerId, producerEpoch: 0, baseSequence }, true, 0)
    append("1", 0, { key: "a" })
    transactional(7, 0, "a", "never")
    log.mark(7, 0, "abort", 0)
    transactional(7, 1, "b", "yes")
    log.mark(7, 0, "commit", 0)
    log.roll()
    transactional(8, 0, "c", "open")
    append("2", 0, { key: "a" })
    retention.run(1)
    assert.strictEqual(log.lastStable, 5)
    assert.deepStrictEqual(contents(log), ["0 a=1", "3 b=yes"])
    log.mark(8, 0, "commit", 0)
    retention.run(2)
    const { aborted } = log.read(0, 1_000, true)
    assert.deepStrictEqual(aborted, [])
    assert.deepStrictEqual(contents(log), ["3 b=yes", "5 c=open", "6 a=2"])
  })

  it("compacts by itself: when half of a log is new, or something waits for max.compaction.lag.ms", () => {
    const { log, append } = kept({ "cleanup.policy": "compact" })
    for (let i = 0; i < 1_000; i++) append(large, i, { key: `${i % 5}` })
    assert.isBelow(log.size, 4_000_000)
    const slow = kept({ "cleanup.policy": "compact", "max.compaction.lag.ms": `${10 * minute}` })
    slow.append("1", 0, { key: "a" })
    slow.append("2", 0, { key: "a" })
    slow.timers.advance(10 * minute)
    assert.deepStrictEqual(contents(slow.log), ["1 a=2"])
    assert.strictEqual(slow.timers.next, Infinity)
  })

  it("leaves what is younger than min.compaction.lag.ms", () => {
    const { log, timers, retention, append } = kept({
      "cleanup.policy": "compact",
      "min.compaction.lag.ms": `${10 * minute}`,
    })
    append("1", 0, { key: "a" })
    append("2", 0, { key: "a" })
    retention.run(5 * minute)
    assert.deepStrictEqual(contents(log), ["0 a=1", "1 a=2"])
    timers.advance(15 * minute)
    assert.deepStrictEqual(contents(log), ["1 a=2"])
  })

  it("compacts and deletes where the policy says both", () => {
    const { log, timers, retention, append } = kept({
      "cleanup.policy": "compact,delete",
      "retention.ms": `${60 * minute}`,
    })
    append("1", 0, { key: "a" })
    append("2", 0, { key: "a" })
    retention.run(1)
    append("1", 30 * minute, { key: "b" })
    assert.deepStrictEqual(contents(log), ["1 a=2", "2 b=1"])
    timers.advance(65 * minute)
    assert.deepStrictEqual(contents(log), ["2 b=1"])
  })

  it.effect("compaction changes nothing for who wants the last value of each key", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const { log, retention, append } = kept({ "cleanup.policy": "compact", "delete.retention.ms": "20" })
        const latest = new Map<string, string | null>()
        for (let i = 0; i < 200; i++) {
          const key = `${dice.int(0, 10)}`
          const value = dice.int(0, 5) === 0 ? null : `${i}`
          append(value, i, { key })
          latest.set(key, value)
          if (dice.int(0, 20) === 0) retention.run(i)
        }
        retention.run(200)
        const found = new Map<string, string | null>()
        for (const segment of log.segments) {
          const { keys, bytes } = log.committed(segment)
          keys.forEach((key, i) => found.set(text(key!), bytes[i] === null ? null : text(bytes[i]!)))
        }
        const live = (all: ReadonlyMap<string, string | null>) => [...all].filter(([, value]) => value !== null).sort()
        assert.deepStrictEqual(live(found), live(latest))
        const offsets = log.segments.flatMap((segment) => [...log.committed(segment).offsets])
        assert.deepStrictEqual(offsets, offsets.toSorted((a, b) => a - b))
      })))
})
