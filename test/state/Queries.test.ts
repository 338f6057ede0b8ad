/** Queries over stores that a test holds itself: pages, windows, and the view of the last commit. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { forKey } from "../../src/kafka/Partitioner.ts"
import * as Queries from "../../src/state/Queries.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import type { StoreSpec } from "../../src/Task.ts"
import { Buffer } from "node:buffer"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const partitions = 3

const spec: StoreSpec<number> = { name: "numbers", value: Schema.Int }

const windowed: StoreSpec<number> = {
  name: "windows",
  value: Schema.Int,
  isParted: true,
  windows: { size: 20 },
}

const parse = (id: string) => ({ start: Number(id.split(":")[0]), key: id.slice(id.indexOf(":") + 1) })

const partitionOf = (key: string, partitions: number) => forKey(Buffer.from(key), partitions)

/** A store of each kind per partition, all of them in this process. */
const served = Effect.gen(function* () {
  const queries = Context.get(yield* Layer.build(Layer.fresh(Queries.layer())), Queries.Queries)
  const serving = queries.serve({
    name: "p",
    stores: [spec, windowed].map((spec) => ({ spec: spec as StoreSpec<unknown>, flow: 0, partitions })),
    partitionOf,
    isMember: () => true,
    isStopped: () => false,
  })
  const tasks = Array.from({ length: partitions }, (_, partition) => ({ flow: 0, partition }))
  const stores = tasks.map((task) => {
    const own = { numbers: new JournaledStore(spec), windows: new JournaledStore(windowed) }
    for (const store of Object.values(own)) serving.opened(task, store as JournaledStore<unknown>)
    return own
  })
  serving.assigned(tasks, new Map())
  return { queries, stores }
})

const keys = ["", "a", "ab", "abc", "b", "ä", "a:1", "{", "z/%", "\u0000"]

/** Changes and commits in any order; answers what is committed, by the plainest means. */
const worked = (
  dice: Dice,
  store: JournaledStore<number>,
  draw: () => string,
): ReadonlyMap<string, number> => {
  const committed = new Map<string, number>()
  const now = new Map<string, number>()
  let taken = new Map<string, number>()
  let version = 0
  for (let i = dice.int(0, 60); i > 0; i--) {
    const id = draw()
    const what = dice.int(0, 9)
    if (what < 5) {
      store.set(id, i)
      now.set(id, i)
    } else if (what < 7) {
      store.delete(id)
      now.delete(id)
    } else if (what < 9) {
      version = store.takeChanges()?.version ?? version
      taken = new Map(now)
    } else {
      store.committed(version)
      committed.clear()
      for (const [id, value] of taken) committed.set(id, value)
    }
  }
  return committed
}

describe("Queries", () => {
  it.effect("answer keys and pages as of the last commit, whatever is under way", () =>
    forSeeds(150, (dice) =>
      Effect.gen(function* () {
        const { queries, stores } = yield* served
        const expected = stores.map(({ numbers }) => worked(dice, numbers, () => dice.pick(keys)))
        for (const key of keys) {
          for (let partition = 0; partition < partitions; partition++) {
            const entry = yield* queries.get({ store: "numbers", key, partition })
            assert.strictEqual(entry?.value, expected[partition]!.get(key))
          }
          const entry = yield* queries.get({ store: "numbers", key })
          assert.strictEqual(entry?.value, expected[partitionOf(key, partitions)]!.get(key))
        }
        const prefix = dice.pick(["", "a", "ab", "q"])
        const all = expected.flatMap((entries, partition) =>
          Array.from(entries, ([key, value]) => ({ key, partition, value }))
        ).filter(({ key }) => key.startsWith(prefix))
          .sort((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : a.partition - b.partition)
        const limit = dice.int(1, 5)
        const read: Array<unknown> = []
        let after: string | undefined
        do {
          const page: Queries.Page = yield* queries.scan({ store: "numbers", prefix, limit, after })
          assert.isAtMost(page.entries.length, limit)
          assert.isTrue(page.next === undefined || page.entries.length === limit)
          read.push(...page.entries.map(({ key, partition, value }) => ({ key, partition, value })))
          after = page.next
        } while (after !== undefined)
        assert.deepStrictEqual(read, all)
        const [info] = yield* queries.stores
        assert.deepStrictEqual(info!.held.map(({ entries }) => entries), expected.map(({ size }) => size))
      })))

  it.effect("answer the windows of a key in any range, and pages of windows by key and start", () =>
    forSeeds(150, (dice) =>
      Effect.gen(function* () {
        const { queries, stores } = yield* served
        const draw = () => `${dice.int(0, 9) * 10}:${dice.pick(keys)}`
        const expected = stores.map(({ windows }) => worked(dice, windows, draw))
        const all = expected.flatMap((entries, partition) =>
          Array.from(entries, ([id, value]) => ({ ...parse(id), partition, value }))
        ).sort((a, b) => a.key < b.key ? -1 : a.key > b.key ? 1 : a.start - b.start || a.partition - b.partition)
        for (const key of ["a", "a:1", "ä"]) {
          const partition = dice.int(0, partitions - 1)
          const from = dice.pick([undefined, dice.int(-20, 100)])
          const to = dice.pick([undefined, dice.int(-20, 1_000_000), dice.int(0, 100)])
          const found = yield* queries.windows({ store: "windows", key, partition, from, to })
          assert.deepStrictEqual(
            found.map(({ key, start, partition, value, end }) => ({ key, start: start!, partition, value, end })),
            all.filter((window) =>
              window.key === key && window.partition === partition && window.start >= (from ?? -Infinity) &&
              window.start <= (to ?? Infinity)
            ).map((window) => ({ ...window, end: window.start + 20 })),
          )
        }
        const { entries } = yield* queries.scan({ store: "windows", limit: 1_000 })
        assert.deepStrictEqual(
          entries.map(({ key, start, partition, value }) => ({
            key,
            start: start!,
            partition,
            value: value as number,
          })),
          all,
        )
      })))

  it.effect("refuse what makes no sense", () =>
    Effect.gen(function* () {
      const { queries } = yield* served
      const refused = <A>(query: Effect.Effect<A, Queries.QueryError>) =>
        Effect.map(Effect.flip(query), ({ reason, message }) => `${reason}: ${message}`)
      const scan = (of: object) => refused(queries.scan({ store: "numbers", limit: 10, ...of }))
      assert.strictEqual(yield* scan({ limit: 0 }), "Invalid: limit is a whole number from 1 to 1000")
      assert.strictEqual(yield* scan({ limit: 1_001 }), "Invalid: limit is a whole number from 1 to 1000")
      assert.strictEqual(yield* scan({ after: "what" }), "Invalid: after is not what an earlier page has said")
      assert.strictEqual(yield* scan({ store: "none" }), "Unknown: no pipeline of this process has a store named none")
      assert.strictEqual(yield* scan({ pipeline: "q" }), "Unknown: pipeline q has no store named numbers")
      assert.strictEqual(
        yield* refused(queries.get({ store: "numbers", key: "a", partition: 3 })),
        "Invalid: partition is a whole number from 0 to 2",
      )
      assert.include(
        yield* refused(queries.get({ store: "windows", key: "a" })),
        "Invalid: store windows has an entry per",
      )
      assert.include(
        yield* refused(queries.windows({ store: "numbers", key: "a" })),
        "Invalid: store numbers has no windows",
      )
      const other = { partitionOf, isMember: () => true, isStopped: () => false }
      const twin = queries.serve({
        name: "q",
        stores: [{ spec: spec as StoreSpec<unknown>, flow: 0, partitions }],
        ...other,
      })
      assert.strictEqual(yield* scan({}), "Invalid: pipelines p and q have a store named numbers: say which")
      assert.deepStrictEqual((yield* queries.scan({ store: "numbers", pipeline: "p", limit: 1 })).entries, [])
      assert.strictEqual(
        yield* scan({ pipeline: "q" }),
        "Unready: pipeline q is being rebalanced: ask again in a moment",
      )
      twin.end()
      assert.deepStrictEqual((yield* queries.scan({ store: "numbers", limit: 1 })).entries, [])
    }))
})
