/** Sessions, against a reading of their rules that is as simple as can be. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readFileSync } from "node:fs"
import * as Sessions from "../../src/clickstream/Sessions.ts"
import { Decode, Deliver, Flow, Ingest, Topic } from "../../src/index.ts"
import { type Rec, run, sources } from "../support/FlowRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const minute = 60_000
const gap = 30 * minute
const grace = 60 * minute
const longest = 24 * 60 * minute

const Clicks = Topic.make({
  name: "clicks",
  description: "",
  owner: "",
  schema: Schema.Struct({ eventId: Schema.String, eventTime: Schema.Int, path: Schema.NullOr(Schema.String) }),
  eventTime: (click) => click.eventTime,
  partitions: 1,
})

const Copies = Topic.make({ name: "copies", description: "", owner: "", schema: Clicks.schema, partitions: 1 })

const flow = Ingest.topic(Clicks).pipe(Decode.schema, Sessions.by({ name: "sessions" }))

interface Click {
  readonly key: string | null
  readonly id: string
  readonly at: number
}

const record = ({ key, id, at }: Click): Rec => ({
  key,
  value: JSON.stringify({ eventId: id, eventTime: at, path: `/${id}` }),
  timestamp: 0,
})

/** What becomes of each click: the first click of its session and its number in it, or why it is in none. */
const observed = (clicks: ReadonlyArray<Click>, cuts: ReadonlyArray<number> = []) =>
  Effect.map(run(flow, new Map([[Clicks, sources(Clicks, clicks.map(record), cuts)]])), ({ batches }) => {
    const firsts = new Map<string, string>()
    const outcomes: Record<string, string> = {}
    for (const batch of batches) {
      for (const { eventId, session } of batch.values) {
        if (session.clicks === 1) firsts.set(session.id, eventId)
        outcomes[eventId] = `${
          firsts.get(session.id)
        } ${session.clicks} ${session.firstPage} ${session.start} ${session.last}`
      }
      for (const { row, reason } of batch.failed) {
        const { eventId } = JSON.parse(String(batch.source.bytes[row])) as { eventId: string }
        outcomes[eventId] = reason._tag
      }
    }
    return outcomes
  })

const expected = (clicks: ReadonlyArray<Click>) => {
  const all: Array<{ key: string; first: string; start: number; last: number; clicks: number; page: string }> = []
  const outcomes: Record<string, string> = {}
  let now = -Infinity
  for (const { key, id, at } of clicks) {
    now = Math.max(now, at)
    if (key === null) {
      outcomes[id] = "Keyless"
      continue
    }
    const open = all.filter((one) => one.key === key && one.last >= now - gap - grace).sort((a, b) => a.start - b.start)
    let joined = open.find(({ start, last }) =>
      at >= start - gap && at <= last + gap && Math.max(last, at) - Math.min(start, at) <= longest
    )
    if (joined === undefined) {
      if (at < now - gap - grace) {
        outcomes[id] = "Late"
        continue
      }
      joined = { key, first: id, start: at, last: at, clicks: 0, page: `/${id}` }
      all.push(joined)
    }
    if (at < joined.start) joined.page = `/${id}`
    joined.start = Math.min(joined.start, at)
    joined.last = Math.max(joined.last, at)
    joined.clicks++
    outcomes[id] = `${joined.first} ${joined.clicks} ${joined.page} ${joined.start} ${joined.last}`
  }
  return outcomes
}

const random = (dice: Dice): ReadonlyArray<Click> => {
  let at = 1_000_000 * minute
  return dice.list(1, 80, (i) => {
    at += dice.pick([0, minute, 10 * minute, 29 * minute, gap, gap + 1, 3 * 60 * minute]) * dice.pick([1, 1, 1, 0])
    const back = dice.pick([0, 0, 0, minute, gap, gap + grace, gap + grace + 1, 5 * 60 * minute])
    return { key: dice.pick(["ann", "ben", "cho", null]), id: `c${i}`, at: at - back }
  })
}

/** Clicks of one visitor at these minutes, in the order of arrival. */
const visit = (...minutes: ReadonlyArray<number>): ReadonlyArray<Click> =>
  minutes.map((at, i) => ({ key: "ann", id: `c${i}`, at: (10_000 + at) * minute }))

const first = (outcome: string | undefined) => outcome?.split(" ")[0]

describe("Sessions", () => {
  it.effect("are what the rules say, wherever batches are cut", () =>
    forSeeds(400, (dice, seed) =>
      Effect.gen(function* () {
        const clicks = random(dice)
        const cuts = dice.list(0, 6, () => dice.int(0, clicks.length))
        assert.deepStrictEqual(yield* observed(clicks, cuts), expected(clicks), `SEED=${seed}`)
      })))

  it.effect("join clicks exactly one gap apart, on either side, and no further", () =>
    Effect.gen(function* () {
      assert.strictEqual(first((yield* observed(visit(0, 30)))["c1"]), "c0")
      assert.strictEqual(first((yield* observed(visit(0, -30)))["c1"]), "c0")
      assert.strictEqual(first((yield* observed(visit(0, 30.001)))["c1"]), "c1")
    }))

  it.effect("stay apart when a click bridges them: it joins the older one", () =>
    Effect.gen(function* () {
      const outcomes = yield* observed(visit(0, 50, 25, 51))
      assert.deepStrictEqual([1, 2, 3].map((i) => first(outcomes[`c${i}`])), ["c1", "c0", "c0"])
    }))

  it.effect("end after 24 hours, however busy they are", () =>
    Effect.gen(function* () {
      const clicks = visit(...Array.from({ length: 100 }, (_, i) => i * 29))
      const outcomes = yield* observed(clicks)
      assert.strictEqual(new Set(Object.values(outcomes).map(first)).size, 2)
    }))

  it.effect("keep their id when an earlier click comes later", () =>
    Effect.gen(function* () {
      const outcomes = yield* observed(visit(10, 0, 20))
      assert.deepStrictEqual(Object.values(outcomes).map(first), ["c0", "c0", "c0"])
      assert.match(outcomes["c2"]!, / 3 \/c1 /)
    }))

  it.effect("know the time of clicks that were dropped before them, after a crash too", () =>
    Effect.gen(function* () {
      const filtered = Ingest.topic(Clicks).pipe(
        Decode.schema,
        Flow.filter((click) => click.path !== "/c1"),
        Sessions.by({ name: "sessions" }),
      )
      const clicks = visit(0, 500)
      const { batches } = yield* run(filtered, new Map([[Clicks, sources(Clicks, clicks.map(record), [1])]]))
      assert.deepStrictEqual(
        batches.map(({ changes }) => changes[0]?.streamTime),
        clicks.map(({ at }) => at),
      )
    }))

  it.effect("take nothing back of what a late click's record has caused", () =>
    Effect.gen(function* () {
      const delivered = Ingest.topic(Clicks).pipe(
        Decode.schema,
        Deliver.to(Copies),
        Flow.flatMap((click) => click.path === "/c1" ? [click, { ...click, eventTime: click.eventTime * 2 }] : [click]),
        Sessions.by({ name: "sessions" }),
      )
      const { batches } = yield* run(
        delivered,
        new Map([[Clicks, sources(Clicks, visit(500, 0).map(record), [])]]),
      )
      const { failed, outgoing, rows } = batches[0]!
      assert.deepStrictEqual(failed.map(({ row, reason, kept }) => [row, reason._tag, kept]), [[1, "Late", true]])
      assert.deepStrictEqual(outgoing.map(({ row }) => row), [0, 1])
      assert.deepStrictEqual([...rows!], [0, 1])
    }))

  it.effect("find 1,597 clicks of the sample log before their session's start so far", () =>
    Effect.gen(function* () {
      const log = readFileSync(new URL("../../data/apache_access_combined_10k.log", import.meta.url), "utf8")
      const clicks = log.split("\n").flatMap((line, i): ReadonlyArray<Click> => {
        const match = /^(\S+) .*?\[(\d+)\/(\w+)\/(\d+):([\d:]+) \+0000\]/.exec(line)
        if (match === null) return []
        const [, key, day, month, year, time] = match as unknown as ReadonlyArray<string>
        return [{ key: key!, id: `l${i}`, at: Date.parse(`${day} ${month} ${year} ${time} UTC`) }]
      })
      assert.strictEqual(clicks.length, 10_000)
      const outcomes = yield* observed(clicks)
      const starts = new Map<string, number>()
      let before = 0
      for (const { id, at } of clicks) {
        const session = first(outcomes[id])!
        if (at < (starts.get(session) ?? at)) before++
        starts.set(session, Math.min(at, starts.get(session) ?? at))
      }
      assert.strictEqual(before, 1_597)
    }))
})
