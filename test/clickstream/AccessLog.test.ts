/** Access logs: the bundled one, compared with an independent reading, and lines that are made to break a reader. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Result } from "effect"
import { readFileSync } from "node:fs"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { topics } from "../../schemas/index.ts"
import { count } from "../../scripts/count-log.ts"
import * as AccessLog from "../../src/clickstream/AccessLog.ts"
import { lines } from "../../src/clickstream/Lines.ts"
import { recordOf } from "../../src/clickstream/LogRecords.ts"
import { forSeeds } from "../support/Seeds.ts"

const text = readFileSync(new URL("../../data/apache_access_combined_10k.log", import.meta.url), "utf8")
const sample = text.split("\n").filter((line) => line !== "")
const hashKey = Redacted.make("key")

const good =
  `203.0.113.9 - ann [17/May/2015:12:05:03 +0200] "GET /a?b=1#c HTTP/1.1" 200 - "http://x.example/" "Agent \\"quoted\\""`

const fieldOf = (line: string) => {
  const parsed = AccessLog.parse(line)
  return Result.isFailure(parsed) ? parsed.failure.field : undefined
}

describe("AccessLog", () => {
  it("reads every field of a line", () => {
    assert.deepStrictEqual(Result.getOrThrow(AccessLog.parse(good)), {
      client: "203.0.113.9",
      user: "ann",
      time: Date.parse("2015-05-17T10:05:03Z"),
      method: "GET",
      target: "/a?b=1#c",
      status: 200,
      bytes: null,
      referrer: "http://x.example/",
      userAgent: 'Agent "quoted"',
    })
  })

  it("undoes servers' escapes, of bytes too", () => {
    const parsed = Result.getOrThrow(AccessLog.parse(good.replace("/a?b=1#c", String.raw`/\xc3\xa9\\t`)))
    assert.strictEqual(parsed.target, "/é\\t")
  })

  it("names the field that is wrong, and does not repeat the line", () => {
    const cases: ReadonlyArray<readonly [string, string]> = [
      ["", "client"],
      [good.replace("[17/May", "[17/Mai/"), "time"],
      [good.replace("17/May", "31/Foo"), "time"],
      [good.replace("200 -", "OK -"), "status"],
      [good.replace("200 -", "200 x"), "bytes"],
      [good.replace('"GET /a?b=1#c HTTP/1.1"', '"-"'), "request"],
      [good.replace('"http://x.example/"', "http://x.example/"), "referrer"],
      [good.slice(0, -1), "user agent"],
      [`${good} "more"`, "line"],
      [good + "x".repeat(AccessLog.longestLine), "line"],
    ]
    for (const [line, field] of cases) {
      assert.strictEqual(fieldOf(line), field, line.slice(0, 200))
      const parsed = AccessLog.parse(line)
      assert.notMatch(Result.isFailure(parsed) ? parsed.failure.message : "", /203|example/)
    }
  })

  it.effect("never throws, and never takes long", () =>
    forSeeds(2_000, (dice) =>
      Effect.sync(() => {
        let line = dice.pick([good, dice.pick(sample)])
        for (let left = dice.int(1, 5); left > 0; left--) {
          const at = dice.int(0, line.length)
          line = line.slice(0, at) + dice.pick(['"', "\\", " ", "[", "\0", "\\x", "-", "é", " ".repeat(5_000)]) +
            line.slice(at + dice.int(0, 3))
        }
        AccessLog.parse(line)
      })))

  it("agrees with an independent count of the bundled log", () => {
    const visitors: Record<string, number> = {}
    const minutes: Record<string, number> = {}
    const malformed: Array<number> = []
    for (const [i, line] of sample.entries()) {
      const parsed = AccessLog.parse(line)
      if (Result.isFailure(parsed)) {
        malformed.push(i + 1)
        continue
      }
      const visitor = AccessLog.visitor(parsed.success.client, hashKey)
      const minute = `${visitor}@${new Date(Math.floor(parsed.success.time / 60_000) * 60_000).toISOString()}`
      visitors[visitor] = (visitors[visitor] ?? 0) + 1
      minutes[minute] = (minutes[minute] ?? 0) + 1
    }
    const expected = count(text, "key")
    assert.deepStrictEqual(malformed, [8_899])
    assert.deepStrictEqual({ visitors, minutes, malformed }, {
      visitors: expected.visitors,
      minutes: expected.minutes,
      malformed: expected.malformed,
    })
    assert.strictEqual(Object.keys(visitors).length, 1_753)
  })

  it("makes ids that are the same in every import, and of every line its own", () => {
    const ids = sample.map((line, i) => AccessLog.eventId(i + 1, Buffer.from(line)))
    assert.strictEqual(new Set(ids).size, sample.length)
    assert.strictEqual(AccessLog.eventId(1, Buffer.from(sample[0]!)), ids[0])
  })

  it("makes messages that the raw topic takes, without the client's address", () => {
    const to = topics()
    for (const [i, line] of sample.slice(0, 500).entries()) {
      const record = recordOf(
        { to, file: "f.log", hashKey, program: { name: "test", version: "0" } },
        { number: i + 1, bytes: Buffer.from(line), end: 0 },
        Date.parse("2026-01-01T00:00:00Z"),
      )
      assert.strictEqual(record.topic, to.raw.name)
      assert.notInclude(String(record.value), line.split(" ", 1)[0]!)
      const message = Result.getOrThrow(to.raw.decode(record.value))
      assert.strictEqual(message.timestamp?.slice(0, 4), "2015")
    }
  })

  it("makes a dead letter of a malformed line, with the line and where it stands", () => {
    const to = topics()
    const line = Buffer.from(sample[8_898]!)
    const options = { to, file: "f.log", hashKey, program: { name: "test", version: "0" } }
    const record = recordOf(options, { number: 8_899, bytes: line, end: 0 }, 0)
    const headers = Object.fromEntries(record.headers!.map(([name, value]) => [name, String(value)]))
    assert.strictEqual(record.topic, to.dlt.name)
    assert.deepInclude(headers, {
      "millrace-file": "f.log",
      "millrace-line": "8899",
      "millrace-reason": "MalformedLine",
      "millrace-field": "user agent",
      "millrace-program": "test",
    })
    assert.deepStrictEqual(record.value, line)
  })
})

describe("Lines", () => {
  it("are the bytes between line ends, wherever chunks are cut", async () => {
    const directory = await mkdtemp(join(tmpdir(), "lines-"))
    const file = join(directory, "log")
    const long = "x".repeat(200_000)
    await writeFile(file, Buffer.concat([Buffer.from("a\r\n\nb\xff\n", "latin1"), Buffer.from(`${long}\nlast`)]))
    const found = []
    for await (const { number, bytes, end } of lines(file, 100_000)) found.push([number, bytes.toString("latin1"), end])
    await rm(directory, { recursive: true })
    assert.deepStrictEqual(found, [
      [1, "a", 3],
      [3, "b\xff", 7],
      [4, "x".repeat(100_000), 200_008],
      [5, "last", 200_012],
    ])
  })
})
