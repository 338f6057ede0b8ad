/** Keys that wait: what is kept of them, also over a restart. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { Entry, Parking } from "../../src/stages/failures/Parking.ts"
import { sequenceHeader } from "../../src/stages/failures/RetryTopic.ts"
import type { Written } from "../../src/stages/failures/RetryRecord.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { forSeeds } from "../support/Seeds.ts"

const turn = "turn"

const record = (key: string, n: number): Written => ({
  key: Buffer.from(key),
  value: n % 3 === 0 ? null : Buffer.from("x".repeat(n)),
  headers: [["n", Buffer.from(String(n))]],
})

const numberOf = ({ headers }: Written): number => Number(Buffer.from(headers[0]![1]).toString())

const open = () => {
  const store = new JournaledStore<Entry>({ name: "parked", value: Entry })
  return { store, parking: new Parking(store, turn) }
}

/** As another process finds it. */
const restored = (store: JournaledStore<Entry>) => {
  const other = new JournaledStore<Entry>({ name: "parked", value: Entry })
  for (const [key, entry] of store.entries()) other.restore(key, store.encode(entry))
  return { store: other, parking: new Parking(other, turn) }
}

describe("Parking", () => {
  it.effect("lets records of a key pass one after the other, in order, and knows the same after a restart", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        let { store, parking } = open()
        const passed: Array<number> = []
        /** By sequence number: what is on its way to those whose turn it is, in no order that can be relied on. */
        let onTheirWay: Array<readonly [sequence: number, record: Written]> = []
        let sent = 0
        let next = 0
        let waiting: number | undefined
        const release = (records: ReadonlyArray<Written>) => {
          for (const record of records) onTheirWay.push([numberOf(record), record])
        }
        const settle = (n: number) => {
          if (dice.int(0, 2) === 0) {
            parking.wait("k", n, "minute")
            waiting = n
          } else {
            passed.push(n)
            waiting = undefined
            release(parking.pass("k"))
          }
        }
        while (sent < 40 || parking.records > 0) {
          const what = dice.int(0, 3)
          if (what === 0 && sent < 40) {
            if (parking.isParked("k")) {
              const sequence = parking.next("k")
              assert.strictEqual(sequence, next)
              const behind = record("k", sequence)
              if (!parking.follow("k", behind)) onTheirWay.push([sequence, behind])
              next++
            } else {
              next = 0
              onTheirWay = []
              passed.length = 0
              settle(next++)
              if (waiting === undefined) next = 0
            }
            sent++
          } else if (what === 1 && waiting !== undefined) {
            assert.isTrue(parking.isFirst("k", waiting, "minute"))
            assert.isFalse(parking.isFirst("k", waiting, "hour"))
            settle(waiting)
          } else if (onTheirWay.length > 0) {
            const [[sequence, one]] = onTheirWay.splice(dice.int(0, onTheirWay.length - 1), 1) as [[number, Written]]
            const arrived = parking.arrive("k", sequence, one)
            assert.notStrictEqual(arrived, "unknown")
            if (arrived === "early") assert.strictEqual(parking.arrive("k", sequence, one), "unknown", "again")
            if (arrived === "next") {
              assert.strictEqual(sequence, passed.length)
              settle(sequence)
            }
          }
          if (parking.isParked("k")) assert.deepStrictEqual(passed, passed.map((_, i) => i))
          else assert.strictEqual(store.size, 0)
          const other = restored(store)
          assert.strictEqual(other.parking.records, parking.records)
          assert.strictEqual(other.parking.bytes, parking.bytes)
          if (dice.int(0, 4) === 0) ({ store, parking } = other)
        }
        assert.strictEqual(parking.bytes, 0)
        assert.strictEqual(store.size, 0)
      })))

  it("goes on behind records that are gone from where they waited", () => {
    const { store, parking } = open()
    parking.wait("a", 0, "minute")
    for (const n of [1, 2, 4]) parking.follow("a", record("a", n))
    const first = restored(store)
    assert.deepStrictEqual([...first.parking.unread], ["minute"])
    const missed = first.parking.missed("minute")
    assert.strictEqual(missed.gone, 1)
    assert.deepStrictEqual(missed.released.map(numberOf), [1, 2, 4])
    assert.deepStrictEqual([...first.parking.unread], [])

    // On their way are 1 to 3; 3 comes too early, then the topic has nothing more, and 4 has been sent since.
    const second = restored(first.store)
    assert.deepStrictEqual([...second.parking.unread], [turn])
    assert.strictEqual(second.parking.arrive("a", 3, record("a", 4)), "early")
    assert.isFalse(second.parking.follow("a", record("a", 5)))
    const { gone, released } = second.parking.missed(turn)
    assert.strictEqual(gone, 2)
    assert.deepStrictEqual(released.map(numberOf), [4])
    assert.strictEqual(second.parking.arrive("a", 3, record("a", 4)), "next")
    assert.deepStrictEqual(second.parking.pass("a"), [])
    assert.strictEqual(second.parking.arrive("a", 4, record("a", 5)), "next")
    second.parking.pass("a")
    assert.deepStrictEqual([second.parking.records, second.parking.bytes, second.store.size], [0, 0, 0])
  })

  it("makes sense of keys of which only a part was written, as without transactions", () => {
    const { store, parking } = open()
    const followers = (key: string, ...numbers: ReadonlyArray<number>) => {
      for (const n of numbers) {
        parking.follow(key, {
          ...record(key, n),
          headers: [["n", Buffer.from(String(n))], [sequenceHeader, digits(n)]],
        })
      }
    }
    const digits = (n: number) => Buffer.from(String(n))
    for (const key of ["gap", "gone", "behind", "passed"]) {
      parking.wait(key, 0, "minute")
      followers(key, 1, 2, 3, 4)
    }
    const log = new Map(store.entries())
    parking.pass("passed")
    // Of each the changelog has a part.
    log.delete("2:gap")
    log.delete("3:gap")
    log.delete("key:gone")
    log.set("key:behind", { first: 0, next: 3, topic: "minute", bytes: 0 })
    log.set("key:passed", store.get("key:passed")!)
    for (const n of [2, 3, 4]) log.delete(`${n}:passed`)

    const part = new JournaledStore<Entry>({ name: "parked", value: Entry })
    for (const [key, entry] of log) part.restore(key, store.encode(entry))
    const mended = new Parking(part, turn)
    assert.strictEqual(mended.next("gap"), 3)
    const passed = mended.pass("gap")
    assert.deepStrictEqual(passed.map(numberOf), [1, 4])
    assert.deepStrictEqual(passed.map(({ headers }) => Buffer.from(headers.at(-1)![1]).toString()), ["1", "2"])
    for (const [i, one] of passed.entries()) {
      assert.strictEqual(mended.arrive("gap", i + 1, one), "next")
      mended.pass("gap")
    }
    assert.isFalse(mended.isParked("gap"))
    assert.isFalse(mended.isParked("gone"))
    assert.deepStrictEqual(mended.pass("behind").map(numberOf), [1, 2])
    assert.strictEqual(mended.arrive("passed", 1, record("passed", 1)), "next")
    assert.deepStrictEqual([...part.entries()].map(([name]) => name).sort(), ["key:behind", "key:passed"])
    assert.strictEqual(restored(part).parking.bytes, mended.bytes)
  })

  it("does not take for gone what has come before its topic was at its end", () => {
    const { store, parking } = open()
    parking.wait("a", 0, "minute")
    parking.wait("b", 0, "minute")
    parking.follow("a", record("a", 1))
    const other = restored(store)
    other.parking.pass("a")
    other.parking.wait("b", 0, "hour")
    assert.deepStrictEqual(other.parking.missed("minute"), { gone: 0, released: [] })
    assert.strictEqual(other.parking.records, 2)
  })
})
