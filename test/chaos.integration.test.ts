/** `npm run chaos -- --quick`: every kind of fault once, on real servers, with everything compared afterwards. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Report } from "../scripts/chaos/Report.ts"
import * as Broker from "./support/Broker.ts"
import * as Database from "./support/Database.ts"

const root = join(import.meta.dirname, "..")

/** Runs the script, and answers what it wrote and what it said. */
const chaos = (...args: ReadonlyArray<string>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-chaos-"))),
    (directory) =>
      Effect.callback<{ readonly json: Report["json"]; readonly output: string }, Error>((resume) => {
        const file = join(directory, "report.json")
        const script = spawn(process.execPath, ["scripts/chaos/index.ts", "--json", file, ...args], { cwd: root })
        let output = ""
        script.stdout.on("data", (chunk) => output += String(chunk))
        script.stderr.on("data", (chunk) => output += String(chunk))
        script.once("close", () => {
          try {
            resume(Effect.succeed({ json: JSON.parse(readFileSync(file, "utf8")) as Report["json"], output }))
          } catch (cause) {
            resume(Effect.fail(new Error(`no report was written:\n${output}`, { cause })))
          }
        })
        // It ends what it has started before it ends itself.
        return Effect.sync(() => void script.kill("SIGTERM"))
      }),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true })),
  )

Broker.describeWithOwnBroker("chaos on real servers", () => {
  Database.describeWithDatabase("quick", () => {
    it.live("loses nothing and repeats nothing over every kind of fault", () =>
      Effect.gen(function* () {
        const { json, output } = yield* chaos("--quick", "--seed", "5", "--rate", "300")
        const { sent, answered, lost, repeated, wrong, examples, faults } = json
        assert.deepStrictEqual(
          { lost, repeated, wrong, examples },
          { lost: 0, repeated: 0, wrong: 0, examples: [] },
          output,
        )
        assert.isAbove(answered, 1_000)
        assert.isAtLeast(sent, answered)
        assert.strictEqual(Object.keys(faults).length, 11)
        for (const [kind, times] of Object.entries(faults)) assert.isAtLeast(times, 1, kind)
      }), 600_000)
  })
})
