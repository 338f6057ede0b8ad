/** Programs for operators: what they end with where they have not done what they were asked for. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { columns } from "../../src/programs/columns.ts"
import { read } from "../../src/programs/replayCommands.ts"
import * as Program from "../support/Program.ts"

describe("programs for operators", () => {
  it.live("that are stopped before they have an answer do not end as if they had one", () =>
    Effect.forEach(
      [["replay", "plan", "enrich", "--from", "earliest"], ["redrive", "list"], ["transactions", "list"]],
      ([name, ...args]) =>
        Effect.scoped(Effect.gen(function* () {
          const program = yield* Program.start(name!, {
            args,
            env: { KAFKA_BROKERS: "127.0.0.1:1", LOG_LEVEL: "Warn" },
          })
          yield* Program.says(program, /trying again/, 120)
          yield* program.signal("SIGINT")
          const { code, output } = yield* program.ended
          assert.strictEqual(code, 1, output)
          assert.include(output, "stopped before it was done")
        })),
      { concurrency: "unbounded" },
    ), 180_000)

  it.live("say what makes no sense on a command line", () =>
    Effect.forEach(
      [
        [["send", "a.dlt", "--all", "--reason", "Down"], /which letters: --all, or a selection/],
        [["send", "a.dlt", "--since", "2026-01-31T12:00:00"], /--since is no time with its zone/],
        [["show", "a.dlt", "0", "0", "--all"], /show takes no --all/],
      ] as const,
      ([args, problem]) =>
        Effect.scoped(Effect.gen(function* () {
          const { code, output } = yield* (yield* Program.start("redrive", { args })).ended
          assert.strictEqual(code, 2, output)
          assert.match(output, problem)
        })),
      { concurrency: "unbounded" },
    ), 180_000)

  it("write nothing to a terminal that it would obey", () => {
    assert.strictEqual(columns(["reason"], [["a\u001b[2J\nb\u202e"]]), "reason\na\ufffd[2J\ufffdb\ufffd")
  })

  it("take nothing with a file to resume that the file decides", () => {
    const resumed = (...args: ReadonlyArray<string>) => read(["run", "--resume", "replay.json", ...args])
    assert.isObject(resumed("--rate", "100", "--json"))
    for (
      const option of ["--dry-run", "--reset-state", "--partial-state", "--reset-only", "--to=earliest", "--file=a"]
    ) {
      assert.match(String(resumed(option)), /--resume FILE takes no --/, option)
    }
    assert.match(String(read(["shadow", "--resume", "shadow.json", "--dry-run"])), /takes no --dry-run/)
  })
})
