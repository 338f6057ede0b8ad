/** The clickstream's own pipelines, over small topics, and what they must come to. */
import { assert } from "@effect/vitest"
import { topics } from "../../../schemas/index.ts"
import { count } from "../../../src/clickstream/Count.ts"
import { enrich } from "../../../src/clickstream/Enrich.ts"
import { store } from "../../../src/clickstream/Store.ts"
import { Guarantee, Pipeline, type Topic } from "../../../src/index.ts"
import type { Cluster } from "../../../src/kafka/Cluster.ts"
import * as Difference from "../../../src/testing/Difference.ts"
import type { Fed } from "../Decision.ts"
import type { Pool } from "../database/MemoryPostgres.ts"
import * as MemoryPostgres from "../database/MemoryPostgres.ts"
import type { AnyPipeline } from "../Program.ts"
import { type Ended, epoch, type System } from "../World.ts"
import { partitions } from "./Input.ts"
import { observed } from "./Observed.ts"
import { type Raw, repeatWindow, type Result, resultOf } from "./Reference.ts"

const naming = { prefix: "", keyBy: "user" } as const
const to = topics(naming)

/** As many partitions as it takes for tasks to move; a real cluster has more. */
const small: ReadonlyArray<Topic.Any> = [to.raw, to.enriched, to.sessions, to.identities, to.counts, to.dlt, to.late]
  .map((topic) => ({ ...topic, partitions: topic === to.raw || topic === to.enriched ? partitions : 1 }))

/** A transaction is ended by its successor long before its time, or by its time long before its owner's session ends. */
const guarantees = {
  patient: Guarantee.exactlyOnce({ transactionTimeout: 60_000 }),
  hasty: Guarantee.exactlyOnce({ transactionTimeout: 800 }),
}

const under = (pipeline: unknown, guarantee: Pipeline.Guarantee<unknown, unknown>): AnyPipeline => ({
  ...pipeline as AnyPipeline,
  guarantee,
})

const enriching = enrich(naming, { repeats: { window: repeatWindow }, sessions: {} })
const counting = count(naming, { grace: "10 minutes" })

const byVisitorNaming = { prefix: "", keyBy: "visitor" } as const
const enrichingByVisitor = enrich(byVisitorNaming, { repeats: { window: repeatWindow }, sessions: {} })
const between = { ...topics(byVisitorNaming).byUser, partitions }
export const enrichByVisitor: string = enrichingByVisitor.name

/** Each partition's messages with their places. */
const rawOf = (input: ReadonlyArray<Fed>): ReadonlyArray<Raw> => {
  const next = new Map<number, number>()
  return input.map(({ partition, key, value, at }) => {
    const offset = next.get(partition) ?? 0
    next.set(partition, offset + 1)
    return { partition, offset, key, value, arrival: epoch + at }
  })
}

const same = (found: unknown, expected: unknown) => {
  const difference = Difference.difference(expected, found)
  if (difference !== undefined) assert.fail(difference)
}

const checkExactly = (input: ReadonlyArray<Fed>, ended: Ended) => {
  const { repeats, ...expected } = resultOf(rawOf(input), partitions)
  const found = observed(ended.records, partitions)
  same(found, expected)
  // Every message is accounted for: nothing else became of any.
  const ofRaw = found.late.filter((name) => name.startsWith("raw")).length + found.dead.length + found.told
  assert.strictEqual(found.enriched.flat().length + ofRaw + repeats, input.length, "messages accounted for")
}

/** From messages to counts, exactly once. */
export const clickstream = (how: keyof typeof guarantees): System => ({
  topics: small,
  pipelines: [under(enriching, guarantees[how]), under(counting, guarantees[how])],
  check: checkExactly,
})

/**
 * The same with clicks that move to their users' partitions behind their sessions. Keys are the same before and behind it, so
 * nothing else comes of it; a topic more can go wrong.
 */
export const byVisitor = (how: keyof typeof guarantees): System => ({
  topics: [...small, between],
  pipelines: [under(enrichingByVisitor, guarantees[how]), under(counting, guarantees[how])],
  check: checkExactly,
})

const time = (millis: unknown) => Date.parse(String(millis))

/** What the tables hold, in the form of the reference; of dead letters and late clicks the reasons. */
const stored = ({ database: { table } }: Ended) => ({
  clicks: Object.fromEntries(
    table("clicks").map((row) => [row["event_id"], {
      user: row["user"],
      eventTime: time(row["event_time"]),
      path: row["path"],
      sessionId: row["session_id"],
      number: row["session_number"],
      firstPage: row["first_page"],
    }]),
  ),
  counts: Object.fromEntries(
    table("clicks_per_minute").map(({ user, minute, clicks, final }) => [`${user}@${time(minute)}`, { clicks, final }]),
  ),
  sessions: Object.fromEntries(
    table("sessions").map((
      row,
    ) => [row["session_id"], { user: row["user"], clicks: row["clicks"], last: time(row["last_at"]) }]),
  ),
  identities: Object.fromEntries(
    table("identities").map(({ identity, event_id, traits }) => [identity, [event_id, traits]]),
  ),
  refused: table("dead_letters").map(({ reason, original_topic, original_partition, original_offset }) =>
    reason === "Late" ? "Late" : `${reason} ${original_topic}/${original_partition}@${original_offset}`
  ).sort(),
})

const expectedRows = ({ enriched, counts, sessions, identities, dead, late }: Omit<Result, "repeats">) => ({
  // A repeat that comes after its id was forgotten goes through, and finds its row there.
  clicks: Object.fromEntries(
    enriched.flat().reverse().map(({ eventId, user, eventTime, path, sessionId, number, firstPage }) => [
      eventId,
      { user, eventTime, path, sessionId, number, firstPage },
    ]),
  ),
  counts,
  sessions: Object.fromEntries(
    Object.entries(sessions).map(([id, { user, clicks, last }]) => [id, { user, clicks, last }]),
  ),
  identities: Object.fromEntries(
    Object.entries(identities).map(([id, { eventId, traits }]) => [id, [eventId, traits]]),
  ),
  refused: [...dead, ...late.map(() => "Late")].sort(),
})

/** Tables are equal to the reference, and no click was written twice: that its key would hide it is no excuse. */
const checkTables = (input: ReadonlyArray<Fed>, ended: Ended) => {
  checkExactly(input, ended)
  const expected = resultOf(rawOf(input), partitions)
  same(stored(ended), expectedRows(expected))
  const written = ended.database.written("clicks").map((row) => String(row["event_id"])).sort()
  same(written, expected.enriched.flat().map(({ eventId }) => eventId).sort())
}

const storing = store(naming) as ReadonlyArray<unknown> as ReadonlyArray<AnyPipeline>

/** Pipelines that write to the database. */
export const writers: ReadonlySet<string> = new Set(storing.map(({ name }) => name))

/** From messages to tables. `around` may plant a defect into the database as programs see it. */
export const whole = (how: keyof typeof guarantees, around?: (pool: Pool) => Pool): System => ({
  topics: small,
  pipelines: [under(enriching, guarantees[how]), under(counting, guarantees[how]), ...storing],
  database: (clock) => MemoryPostgres.make(clock, around),
  check: checkTables,
})

/** Each table with what writes to it, and no other: cheaper. */
export const inOneTable: ReadonlyArray<System> = (["clicks", "counts", "sessions", "identities", "refused"] as const)
  .map((table, i) => ({
    ...whole("patient"),
    pipelines: [
      under(enriching, guarantees.patient),
      ...table === "counts" || table === "refused" ? [under(counting, guarantees.patient)] : [],
      storing[i]!,
    ],
    check: (input, ended) => {
      const { enriched, late, ...expected } = resultOf(rawOf(input), partitions)
      // What nothing counts cannot be late for it.
      const rows = expectedRows({ enriched, late, ...expected })
      same(stored(ended)[table], rows[table])
    },
  }))

/** Clicks on their way into their table, and no other: cheaper. */
export const clicksInTable = (around?: (pool: Pool) => Pool): System => ({
  ...whole("patient", around),
  pipelines: [under(enriching, guarantees.patient), storing[0]!],
  check: (input, { database }) => {
    const { enriched } = resultOf(rawOf(input), partitions)
    const written = database.written("clicks").map((row) => String(row["event_id"])).sort()
    same(written, enriched.flat().map(({ eventId }) => eventId).sort())
  },
})

/** Under at-least-once nothing is missing; outputs may repeat, and counts may run over. */
const checkNothingMissing = (input: ReadonlyArray<Fed>, ended: Ended) => {
  const expected = resultOf(rawOf(input), partitions)
  const found = observed(ended.records, partitions)
  for (const [partition, clicks] of expected.enriched.entries()) {
    const ids = new Set(found.enriched[partition]!.map(({ eventId }) => eventId))
    assert.deepStrictEqual(clicks.map(({ eventId }) => eventId).filter((id) => !ids.has(id)), [], "missing clicks")
  }
  assert.deepStrictEqual(expected.dead.filter((letter) => !found.dead.includes(letter)), [], "missing dead letters")
  assert.deepStrictEqual(
    expected.late.filter((one) => one.startsWith("raw") && !found.late.includes(one)),
    [],
    "missing late clicks",
  )
  assert.sameMembers(Object.keys(found.identities), Object.keys(expected.identities), "identities")
  assert.includeMembers(Object.keys(found.sessions), Object.keys(expected.sessions), "sessions")
  for (const [name, { clicks }] of Object.entries(expected.counts)) {
    assert.isAtLeast(found.counts[name]?.clicks ?? 0, clicks, `clicks of ${name}`)
  }
}

export const atLeastOnce = (
  guarantee: Pipeline.Guarantee<unknown, Cluster> = Guarantee.atLeastOnce(),
): System => ({
  topics: small,
  pipelines: [under(enriching, guarantee), under(counting, guarantee)],
  check: checkNothingMissing,
})
