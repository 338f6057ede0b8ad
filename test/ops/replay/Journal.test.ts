/** What a replay writes down: for its owner alone, whole, and never in the place of another's. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Replay } from "../../../src/index.ts"

const entry = (id: string): Replay.Entry => ({
  ...{ version: 1, id, kind: "in-place", pipeline: "p", group: "p", began: "2026-01-01T00:00:00Z", step: "intended" },
  ...{ before: [], moved: [], ends: [], isBounded: false, stores: [] },
})

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "journal-"))),
  (dir) => Effect.sync(() => rmSync(dir, { recursive: true })),
)

describe("the file of a replay", () => {
  it.live("is for its owner alone, and is replaced as a whole", () =>
    Effect.scoped(Effect.gen(function* () {
      const dir = yield* directory
      const path = join(dir, "a.json")
      const { save } = Replay.file(path)
      yield* save(entry("1"))
      yield* save({ ...entry("1"), step: "finished" })
      assert.strictEqual((yield* Replay.load(path)).step, "finished")
      assert.strictEqual(statSync(path).mode & 0o777, 0o600)
      assert.deepStrictEqual(readdirSync(dir), ["a.json"])
    })))

  it.live("takes the place of no other replay's, and of nothing else", () =>
    Effect.scoped(Effect.gen(function* () {
      const path = join(yield* directory, "a.json")
      const saved = yield* Effect.forEach(
        ["1", "2"],
        (id) => Effect.exit(Replay.file(path).save(entry(id))),
        { concurrency: "unbounded" },
      )
      assert.deepStrictEqual(saved.map(({ _tag }) => _tag).sort(), ["Failure", "Success"])
      assert.strictEqual((yield* Replay.load(path)).id, saved[0]!._tag === "Success" ? "1" : "2")
      writeFileSync(path, "notes")
      assert.match((yield* Effect.flip(Replay.file(path).save(entry("1")))).message, /it holds something else/)
    })))
})
