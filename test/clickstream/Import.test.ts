import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted, Result } from "effect"
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { topics } from "../../schemas/index.ts"
import * as Import from "../../src/clickstream/Import.ts"
import { recordOf } from "../../src/clickstream/LogRecords.ts"
import { Admin, KafkaMemory, Producer } from "../../src/index.ts"

const program = { name: "test", version: "1" }
const naming = { prefix: "", keyBy: "user" } as const
const to = topics(naming)

const line = (client: string, second: number) =>
  `${client} - - [17/May/2015:10:05:${String(second).padStart(2, "0")} +0000] "GET /a HTTP/1.1" 200 5 "-" "Mozilla/5.0"`

const log = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-import-"))),
    (directory) => Effect.sync(() => rmSync(directory, { recursive: true })),
  ),
  (directory) => join(directory, "access.log"),
)

const layer = Producer.layer().pipe(Layer.provideMerge(KafkaMemory.layer()))

describe("an import", () => {
  it.live("makes the same ids of a log that has grown since, and says how fast it goes", () =>
    Effect.gen(function* () {
      const file = yield* log
      const told: Array<Import.Imported> = []
      const run = Import.run({
        file,
        naming,
        program,
        hashKey: undefined,
        rate: undefined,
        progress: (imported) => told.push(imported),
      })
      yield* Admin.createTopics(Object.values(to))
      writeFileSync(file, `\n${line("10.0.0.1", 1)}\nnot a request\n`)
      yield* run
      appendFileSync(file, `${line("10.0.0.2", 2)}\n`)
      yield* run
      const { records } = yield* KafkaMemory.Control
      const messages = (yield* records(to.raw.name)).map(({ value }) =>
        JSON.parse(String(value)) as { readonly messageId: string; readonly anonymousId: string }
      )
      assert.strictEqual(messages.length, 3)
      assert.strictEqual(new Set(messages.map(({ messageId }) => messageId)).size, 2)
      assert.strictEqual(new Set(messages.map(({ anonymousId }) => anonymousId)).size, 2)
      const { lines, malformed, rate } = told.at(-1)!
      assert.deepStrictEqual([lines, malformed], [3, 1])
      assert.isAbove(rate, 0)
    }).pipe(Effect.provide(layer)))
})

describe("a line that cannot be a click", () => {
  const refusing = {
    ...to,
    raw: {
      ...to.raw,
      encode: () => Result.fail({ _tag: "DecodeError", field: "url", message: "is not right" } as never),
    },
  }
  it.each([["in its format", "nonsense", to], ["in its values", line("10.0.0.1", 1), refusing]] as const)(
    "%s is a dead letter with file and line",
    (_, text, to) => {
      const options = { to, file: "access.log", hashKey: Redacted.make("key"), program }
      const record = recordOf(options, { number: 7, bytes: Buffer.from(text), end: 0 }, 0)
      const headers = Object.fromEntries((record.headers ?? []).map(([name, bytes]) => [name, String(bytes)]))
      assert.strictEqual(record.topic, to.dlt.name)
      assert.deepInclude(headers, { "millrace-file": "access.log", "millrace-line": "7" })
    },
  )
})
