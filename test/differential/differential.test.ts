/**
 * Random pipelines over random input, cut into batches anywhere and ended after any of them, come to what a naive
 * computation over the whole input says that they must.
 */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Batch } from "../../src/Batch.ts"
import { keyBytes } from "../../src/Batch.ts"
import { text } from "../../src/Topic.ts"
import { committed, run, sources } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"
import { decoded, input, ofReference, results } from "./Readings.ts"
import { draw, Input, type Reading } from "./Topologies.ts"

type AnyBatch = Batch<Reading, { readonly _tag: string }>

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
