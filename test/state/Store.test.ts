import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import type { Changes } from "../../src/Batch.ts"
import { merge } from "../../src/state/Changed.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { forSeeds } from "../support/Seeds.ts"

describe("JournaledStore", () => {
  for (const isParted of [false, true]) {
    it.effect(`goes back to what was committed last, whatever came after${isParted ? ", in parts" : ""}`, () =>
      forSeeds(300, (dice) =>
        Effect.sync(() => {
          const spec = { name: "s", value: Schema.Int, isParted }
          const store = new JournaledStore(spec)
          const keys = isParted ? ["1:a", "1:b", "2:a", "2:b:c"] : ["a", "b", "c", "1:b"]
          const model = new Map<string, number>()
          const log = new Map<string, Uint8Array>()
          let loggedTime = -Infinity
          const pending: Array<NonNullable<ReturnType<typeof store.takeChanges>>> = []
          for (let i = dice.int(1, 60); i > 0; i--) {
            const key = dice.pick(keys)
            switch (dice.pick(["set", "set", "delete", "clear", "time", "take", "take", "commit", "rewind"])) {
              case "set":
                store.set(key, i)
                model.set(key, i)
                break
              case "delete":
                store.delete(key)
                model.delete(key)
                break
              case "clear": {
                const part = isParted ? key[0]! : ""
                store.part(part).clear()
                for (const key of keys) if (key.startsWith(part)) model.delete(key)
                break
              }
              case "time":
                store.streamTime = Math.max(store.streamTime, dice.int(0, 1_000))
                break
              case "take": {
                const changes = store.takeChanges()
                if (changes !== undefined) pending.push(changes)
                break
              }
              case "commit": {
                const commits = pending.splice(0, dice.int(0, pending.length))
                if (commits.length === 0) break
                for (const [key, value] of merge(commits.map(({ entries }) => entries))) {
                  if (value === undefined) log.delete(key)
                  else log.set(key, store.encode(value))
                }
                const { streamTime, version } = commits.at(-1)!
                loggedTime = streamTime
                store.committed(version)
                break
              }
              case "rewind": {
                pending.length = 0
                store.rewind()
                const restored = new JournaledStore(spec)
                for (const [key, value] of log) restored.restore(key, value)
                assert.deepStrictEqual([...store.entries()].sort(), [...restored.entries()].sort())
                assert.strictEqual(store.streamTime, loggedTime)
                model.clear()
                for (const [key, value] of restored.entries()) model.set(key, value)
              }
            }
            assert.strictEqual(store.size, model.size)
            for (const key of keys) assert.strictEqual(store.get(key), model.get(key))
            // Whatever was done, the committed view is what the log holds.
            const committed = new Map(Array.from(log, ([key, value]) => [key, JSON.parse(String(value)) as number]))
            assert.deepStrictEqual([...store.committedEntries()].sort(), [...committed].sort())
            assert.strictEqual(store.committedSize, committed.size)
            assert.strictEqual(store.committedStreamTime, loggedTime)
            for (const key of keys) assert.strictEqual(store.committedValue(key), committed.get(key))
            const inParts = [...store.committedParts()].flatMap((part) =>
              ["a", "b", "c", "b:c", "1:b"]
                .map((key) => isParted ? `${part}:${key}` : key)
            )
            assert.includeMembers(inParts, [...committed.keys()])
          }
        })))
  }

  it("keeps a part that was left empty for as long as that may be taken back", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int, isParted: true })
    store.set("1:a", 1)
    const { version } = store.takeChanges()!
    store.committed(version)
    store.part("1").clear()
    store.takeChanges()
    store.part("1").add("b", 2)
    store.rewind()
    assert.deepStrictEqual([...store.entries()], [["1:a", 1]])
    assert.deepStrictEqual(Array.from(store.parts(), ({ name }) => name), ["1"])
  })

  it("forgets a part once a commit has said that it is empty", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int, isParted: true })
    store.set("1:a", 1)
    store.set("2:a", 1)
    const part = store.part("1")
    part.clear()
    const { version, entries } = store.takeChanges()!
    assert.deepStrictEqual([...entries], [["1:a", undefined], ["2:a", 1]])
    store.committed(version)
    assert.notStrictEqual(store.part("1"), part)
    store.restore("3:a", store.encode(1))
    store.restore("3:a", null)
    assert.deepStrictEqual(Array.from(store.parts(), ({ name }) => name), ["2"])
  })

  it("puts the last change of a key into a merge, once it was removed and came again as well", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int })
    const changes: Array<Changes> = []
    const batch = (change: () => void) => {
      change()
      changes.push(store.takeChanges()!)
    }
    batch(() => store.set("a", 1))
    batch(() => store.delete("a"))
    batch(() => {
      store.set("a", 2)
      store.set("b", 1)
      store.delete("b")
      store.set("b", 2)
    })
    const merged = merge(changes.map(({ entries }) => entries))
    assert.deepStrictEqual(Object.fromEntries(merged), { a: 2, b: 2 })
    assert.deepStrictEqual(Object.fromEntries(merge([new Map([["c", 3]]), changes[0]!.entries])), { a: 1, c: 3 })
    assert.deepStrictEqual(Object.fromEntries(changes[0]!.entries), { a: 1 })
  })

  it("refuses a key without a part where it is in parts", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int, isParted: true })
    assert.throws(() => store.get("a"), RangeError)
  })

  it("logs an entry again with the first batch that is committed", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int })
    store.restore("k", store.encode(1))
    store.relog("k")
    assert.deepStrictEqual([...store.takeChanges()!.entries], [["k", 1]])
    assert.isUndefined(store.takeChanges())
    store.rewind()
    const { entries, version } = store.takeChanges()!
    assert.deepStrictEqual([...entries], [["k", 1]])
    store.committed(version)
    store.rewind()
    assert.isUndefined(store.takeChanges())
  })

  it("has no changes to log when nothing changed", () => {
    const store = new JournaledStore({ name: "s", value: Schema.Int })
    assert.isUndefined(store.takeChanges())
    store.streamTime = 5
    assert.strictEqual(store.takeChanges()?.entries.size, 0)
    assert.isUndefined(store.takeChanges())
  })
})
