import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { JournaledStore } from "../../src/state/Store.ts"
import { forSeeds } from "../support/Seeds.ts"

describe("JournaledStore", () => {
  it.effect("goes back to what was committed last, whatever came after", () =>
    forSeeds(300, (dice) =>
      Effect.sync(() => {
        const store = new JournaledStore({ name: "s", value: Schema.Int })
        const log = new Map<string, Uint8Array>()
        let loggedTime = -Infinity
        const pending: Array<NonNullable<ReturnType<typeof store.takeChanges>>> = []
        for (let i = dice.int(1, 60); i > 0; i--) {
          const key = dice.pick(["a", "b", "c", "d"])
          switch (dice.pick(["set", "set", "delete", "time", "take", "take", "commit", "rewind"])) {
            case "set":
              store.set(key, dice.int(0, 100))
              break
            case "delete":
              store.delete(key)
              break
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
              for (const { entries, encode, streamTime, version } of commits) {
                for (const [key, value] of entries) {
                  if (value === undefined) log.delete(key)
                  else log.set(key, encode(value))
                }
                loggedTime = streamTime
                store.committed(version)
              }
              break
            }
            case "rewind": {
              pending.length = 0
              store.rewind()
              const restored = new JournaledStore({ name: "s", value: Schema.Int })
              for (const [key, value] of log) restored.restore(key, value)
              assert.deepStrictEqual([...store.entries()].sort(), [...restored.entries()].sort())
              assert.strictEqual(store.streamTime, loggedTime)
            }
          }
        }
      })))

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
