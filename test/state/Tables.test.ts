/** What tables keep in stores, against the naive: everything that ever came, asked anew. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Heap } from "../../src/state/Heap.ts"
import * as Latest from "../../src/state/Rows.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import * as Versioned from "../../src/state/Versions.ts"
import { forSeeds } from "../support/Seeds.ts"

describe("Heap", () => {
  it.effect("answers the first of what is in it", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const heap = new Heap<number>((a, b) => a < b)
        const sorted: Array<number> = []
        for (let i = 0; i < 100; i++) {
          if (dice.int(0, 2) > 0) {
            const n = dice.int(0, 20)
            heap.push(n)
            sorted.push(n)
            sorted.sort((a, b) => a - b)
          } else assert.strictEqual(heap.pop(), sorted.shift())
          assert.strictEqual(heap.peek(), sorted[0])
          assert.strictEqual(heap.size, sorted.length)
        }
      })))
})

interface Came {
  readonly key: string
  readonly at: number
  readonly row: number | undefined
}

/** The last change of a key that is not later than a time, by event time and then by order. */
const validAt = (came: ReadonlyArray<Came>, key: string, time: number): Came | undefined =>
  came.filter((one) => one.key === key && one.at <= time).reduce<Came | undefined>(
    (last, one) => last === undefined || one.at >= last.at ? one : last,
    undefined,
  )

const keys = ["a", "b:", ":c"]

describe("Versions", () => {
  const spec = Versioned.spec("versions", Schema.Int)

  it.effect("answer as of any time of the history, also after a start from the log", () =>
    forSeeds(300, (dice, seed) =>
      Effect.sync(() => {
        const history = dice.pick([0, 10, 50])
        const deletions = dice.pick([0, 30, 100])
        let store = new JournaledStore(spec)
        let versions = new Versioned.Versions(store, history, deletions)
        let came: Array<Came> = []
        /** A key whose last change is a deletion that is long enough ago was never there. */
        const forget = () => {
          for (const key of keys) {
            const last = validAt(came, key, Infinity)
            if (last !== undefined && last.row === undefined && last.at + Math.max(history, deletions) <= now) {
              came = came.filter((one) => one.key !== key)
            }
          }
        }
        let now = 0
        for (let i = 0; i < 60; i++) {
          now += dice.pick([0, 1, 5, 20])
          versions.advance(now)
          forget()
          const one = {
            key: dice.pick(keys),
            at: Math.max(0, now - dice.int(0, 70)),
            row: dice.int(0, 3) === 0 ? undefined : i,
          }
          const isOf = versions.put(one.key, one.at, one.row)
          came.push(one)
          if (!isOf) assert.notStrictEqual(validAt(came, one.key, Math.max(one.at, now - history)), one, `SEED=${seed}`)
          if (dice.int(0, 9) === 0) {
            const restored = new JournaledStore(spec)
            for (const [id, version] of store.entries()) restored.restore(id, store.encode(version))
            restored.restoreStreamTime(store.streamTime)
            store = restored
            versions = new Versioned.Versions(store, history, deletions)
          }
          forget()
          const time = now - dice.int(0, history)
          for (const key of keys) {
            assert.strictEqual(versions.at(key, time), validAt(came, key, time)?.row, `SEED=${seed} ${key} at ${time}`)
          }
        }
        // No more than the history, and the version before it.
        for (const key of keys) {
          const times = [...store.entries()].filter(([id]) => id.slice(id.indexOf(":") + 1) === key).map(([, { at }]) =>
            at
          )
          assert.isAtMost(times.filter((at) => at <= now - history).length, 1, `SEED=${seed}`)
        }
        versions.advance(now + 300)
        for (const [, version] of store.entries()) assert.isDefined(version.row, `SEED=${seed}`)
        assert.isAtMost(store.size, keys.length)
      })))

  it("take the change that comes last of those of one time", () => {
    const versions = new Versioned.Versions(new JournaledStore(spec), 10, 10)
    versions.put("a", 5, 1)
    versions.put("a", 5, 2)
    assert.strictEqual(versions.at("a", 5), 2)
    assert.isUndefined(versions.at("a", 4))
    versions.put("a", 5, undefined)
    assert.isUndefined(versions.at("a", 5))
  })
})

describe("Rows", () => {
  const spec = Latest.spec("rows", Schema.Int)

  it.effect("are the latest by event time, and deletions are remembered for their time and no longer", () =>
    forSeeds(300, (dice, seed) =>
      Effect.sync(() => {
        const deletions = dice.pick([0, 10, 50])
        let store = new JournaledStore(spec)
        let rows = new Latest.Rows(store, deletions)
        const came = new Map<string, Came>()
        let now = 0
        for (let i = 0; i < 60; i++) {
          now += dice.pick([0, 1, 5, 20])
          rows.advance(now)
          for (const [key, { at, row }] of came) if (row === undefined && at + deletions <= now) came.delete(key)
          const one = {
            key: dice.pick(keys),
            at: Math.max(0, now - dice.int(0, 70)),
            row: dice.int(0, 2) === 0 ? undefined : i,
          }
          const last = came.get(one.key)
          const counts = last === undefined || one.at >= last.at
          assert.strictEqual(rows.put(one.key, one.at, one.row), counts, `SEED=${seed}`)
          if (counts) came.set(one.key, one)
          if (one.row === undefined && one.at + deletions <= now) {
            if (counts) came.delete(one.key)
          }
          if (dice.int(0, 9) === 0) {
            const restored = new JournaledStore(spec)
            for (const [id, latest] of store.entries()) restored.restore(id, store.encode(latest))
            restored.restoreStreamTime(store.streamTime)
            store = restored
            rows = new Latest.Rows(store, deletions)
          }
          assert.strictEqual(store.size, came.size, `SEED=${seed}`)
          for (const key of keys) {
            assert.strictEqual(rows.get(key), came.get(key)?.row, `SEED=${seed} ${key}`)
            assert.strictEqual(rows.changedAt(key), came.get(key)?.at ?? -Infinity, `SEED=${seed} ${key}`)
          }
        }
      })))
})
