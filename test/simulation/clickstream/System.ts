/** The clickstream's own pipelines, over small topics, and what they must come to. */
import { assert } from "@effect/vitest"
import { topics } from "../../../schemas/index.ts"
import { count } from "../../../src/clickstream/Count.ts"
import { enrich } from "../../../src/clickstream/Enrich.ts"
import { Guarantee, Pipeline, type Topic } from "../../../src/index.ts"
import type { Cluster } from "../../../src/kafka/Cluster.ts"
import * as Difference from "../../../src/testing/Difference.ts"
import type { Fed } from "../Decision.ts"
import type { AnyPipeline } from "../Program.ts"
import { type Ended, epoch, type System } from "../World.ts"
import { partitions } from "./Input.ts"
import { observed } from "./Observed.ts"
import { type Raw, repeatWindow, resultOf } from "./Reference.ts"

const naming = { prefix: "", keyBy: "user" } as const
const to = topics(naming)

/** As many partitions as it takes for tasks to move; a real cluster has more. */
const small: ReadonlyArray<Topic.Any> = [to.raw, to.enriched, to.sessions, to.identities, to.counts, to.dlt, to.late]
  .map((topic) => ({ ...topic, partitions: topic === to.raw || topic === to.enriched ? partitions : 1 }))

/** A transaction is ended by its successor long before its time, or by its time long before its owner's session ends. */
const guarantees = {
  patient: Guarantee.exactlyOnce({ transactionTimeout: 60_000 }),
  hasty: Guarantee.exactlyOnce({ transactionTimeout: 4_000 }),
}

const under = (pipeline: unknown, guarantee: Pipeline.Guarantee<unknown, unknown>): AnyPipeline => ({
  ...pipeline as AnyPipeline,
  guarantee,
})

const enriching = enrich(naming, { repeats: { window: repeatWindow }, sessions: {} })
const counting = count(naming, { grace: "10 minutes" })

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
