/**
 * Random pipelines over random input, cut into batches anywhere and ended after any of them, come to what a naive
 * computation over the whole input says that they must.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Batch } from "../../src/Batch.ts"
import { keyBytes } from "../../src/Batch.ts"
import { text } from "../../src/Topic.ts"
import { committed, type Rec, run, sources } from "../support/FlowRunner.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import type * as Reference from "./Reference.ts"
import { draw, Input, type Reading } from "./Topologies.ts"

type AnyBatch = Batch<Reading, { readonly _tag: string }>

interface Drawn {
  readonly record: Rec
  readonly value: Reading | undefined
}

const input = (dice: Dice): ReadonlyArray<Drawn> => {
  let at = 6_000_000
  return dice.list(1, 50, (i) => {
    const key = dice.int(0, 14) === 0 ? null : dice.pick(["ann", "ben", "cho"])
    at += dice.pick([-20_000, -5_000, 0, 5_000, 10_000, 30_000, dice.int(-60_000, 90_000)])
    const value = { id: `${key}-${dice.int(0, 15)}`, n: dice.int(0, 9), at }
    const isGood = dice.int(0, 14) > 0
    const bytes = isGood ? JSON.stringify(value) : dice.pick(["{", null])
    return { record: { key, value: bytes, timestamp: 9_000_000 + i }, value: isGood ? value : undefined }
  })
}

/** The input as it comes out of decoding. */
const decoded = (drawn: ReadonlyArray<Drawn>): Reference.Stream => {
  let now = -Infinity
  const clock = drawn.map(({ value }) => now = Math.max(now, value?.at ?? -Infinity))
  return {
    values: drawn.flatMap(({ record, value }, row) =>
      value === undefined ? [] : [{ ...value, row, unit: row, key: record.key, clock: clock[row]! }]
    ),
    clock,
    sent: [],
    failed: drawn.flatMap(({ value }, row) => value === undefined ? [{ row, unit: row, reason: "DecodeError" }] : []),
    dropped: [],
  }
}

/** What can be compared: by key in order, or where only the last counts by key. */
const results = (
  values: ReadonlyArray<readonly [key: string | null, value: string]>,
  table: boolean,
): Readonly<Record<string, ReadonlyArray<string>>> => {
  const byKey: Record<string, Array<string>> = {}
  for (const [key, value] of values) {
    const so = byKey[String(key)] ??= []
    if (table) so.length = 0
    so.push(value)
  }
  return byKey
}

const ofBatches = (batches: ReadonlyArray<AnyBatch>, table: boolean) => {
  const rows = (of: (batch: AnyBatch) => ReadonlyArray<readonly [row: number, reason: string]>) =>
    batches.flatMap((batch) => of(batch).map(([row, reason]) => `${batch.source.offsets[row]} ${reason}`)).sort()
  const textOf = (bytes: Uint8Array | null) => bytes && text(bytes)
  return {
    values: results(
      batches.flatMap((batch) =>
        batch.values.map(({ id, n }, i) => [textOf(keyBytes(batch, i)), `${id} ${n}`] as const)
      ),
      table,
    ),
    sent: results(
      batches.flatMap(({ outgoing }) => outgoing.map(({ key, value }) => [textOf(key), textOf(value)!] as const)),
      false,
    ),
    failed: rows(({ failed }) => failed.map(({ row, reason }) => [row, reason._tag])),
    dropped: rows(({ dropped }) => dropped.map(({ row, reason }) => [row, reason])),
  }
}

const ofReference = ({ values, sent, failed, dropped }: Reference.Stream, table: boolean) => ({
  values: results(values.map(({ key, id, n }) => [key, `${id} ${n}`]), table),
  sent: results(sent.map(({ key, value }) => [key, value]), false),
  failed: failed.map(({ row, reason }) => `${row} ${reason}`).sort(),
  dropped: [...dropped].sort(),
})

it.effect(
  "random pipelines come to what a naive computation says",
  () =>
    forSeeds(10_000, (dice) =>
      Effect.gen(function* () {
        const topology = draw(dice)
        const drawn = input(dice)
        const records = drawn.map(({ record }) => record)
        let batches: ReadonlyArray<AnyBatch> = []
        for (let left = dice.int(0, 3); left >= 0; left--) {
          const start = committed(batches)
          const cuts = dice.list(0, 8, () => dice.int(0, 50))
          const inputs = sources(Input, records, cuts, { position: start.positions.get(Input) ?? 0 })
          const ran = yield* run(topology.flow, new Map([[Input, inputs]]), start)
          batches = [...batches, ...left === 0 ? ran.batches : ran.batches.slice(0, dice.int(0, ran.batches.length))]
        }
        assert.deepStrictEqual(
          ofBatches(batches, topology.table),
          ofReference(topology.reference(decoded(drawn)), topology.table),
          topology.name,
        )
      })),
  240_000,
)
