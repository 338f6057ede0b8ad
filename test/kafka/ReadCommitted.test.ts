import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { FetchedBatch, FetchedPartition } from "../../src/kafka/Cluster.ts"
import { readable } from "../../src/kafka/ReadCommitted.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const batch = (baseOffset: number, length: number, from: Partial<FetchedBatch>): FetchedBatch => ({
  baseOffset,
  lastOffset: baseOffset + length - 1,
  producerId: -1,
  transactional: false,
  control: null,
  keys: Array.from({ length }, () => null),
  values: Array.from({ length }, (_, i) => new Uint8Array([baseOffset + i])),
  headers: Array.from({ length }, () => []),
  offsets: Array.from({ length }, (_, i) => baseOffset + i),
  timestamps: Array.from({ length }, () => 0),
  ...from,
})

const marker = (offset: number, producerId: number, control: "commit" | "abort"): FetchedBatch =>
  batch(offset, 1, {
    producerId,
    transactional: true,
    control,
    offsets: [],
    keys: [],
    values: [],
    headers: [],
    timestamps: [],
  })

const fetched = (from: Partial<FetchedPartition>): FetchedPartition => ({
  topic: "t",
  partition: 0,
  error: null,
  highWatermark: 1_000,
  lastStableOffset: 1_000,
  logStartOffset: 0,
  aborted: [],
  batches: [],
  ...from,
})

/** A log made of interleaved transactions, with which of its records a reader may see. */
const randomLog = (dice: Dice) => {
  const batches: Array<FetchedBatch> = []
  const aborted: Array<{ producerId: number; firstOffset: number; lastOffset: number }> = []
  const visible = new Map<number, boolean>()
  const open = new Map<number, { first: number; offsets: Array<number> }>()
  let end = 0
  const finish = (producerId: number, commit: boolean) => {
    const { first, offsets } = open.get(producerId)!
    open.delete(producerId)
    for (const offset of offsets) visible.set(offset, commit)
    if (!commit) aborted.push({ producerId, firstOffset: first, lastOffset: end })
    batches.push(marker(end++, producerId, commit ? "commit" : "abort"))
  }
  for (let i = dice.int(0, 30); i > 0; i--) {
    const producerId = dice.int(1, 3)
    const length = dice.int(1, 4)
    const at = open.get(producerId)
    if (at !== undefined && dice.int(0, 2) === 0) {
      finish(producerId, dice.int(0, 1) === 0)
      continue
    }
    const transactional = dice.int(0, 3) > 0
    const offsets = Array.from({ length }, (_, k) => end + k)
    batches.push(batch(end, length, { producerId, transactional }))
    if (!transactional) { for (const offset of offsets) visible.set(offset, true) }
    else if (at === undefined) open.set(producerId, { first: end, offsets })
    else at.offsets.push(...offsets)
    end += length
  }
  const lastStableOffset = Math.min(end, ...Array.from(open.values(), ({ first }) => first))
  return { batches, aborted, visible, end, lastStableOffset }
}

describe("readable", () => {
  it.effect("shows exactly the committed records below the last stable offset, however the log is cut into fetches", () =>
    forSeeds(500, (dice) =>
      Effect.sync(() => {
        const log = randomLog(dice)
        const seen: Array<number> = []
        let position = 0
        while (position < log.lastStableOffset) {
          const first = log.batches.findIndex((one) => one.lastOffset >= position)
          const batches = log.batches.slice(first, first + dice.int(1, 4))
          const [from, to] = [batches[0]!.baseOffset, batches.at(-1)!.lastOffset]
          const records = readable(
            fetched({
              batches,
              lastStableOffset: log.lastStableOffset,
              aborted: log.aborted.filter((one) => one.lastOffset >= from && one.firstOffset <= to),
            }),
            position,
          )
          seen.push(...records.offsets)
          assert.isAbove(records.next, position)
          position = records.next
        }
        const expected = [...log.visible].filter(([offset, is]) => is && offset < log.lastStableOffset)
        assert.deepStrictEqual(seen, expected.map(([offset]) => offset).sort((a, b) => a - b))
      })))

  it("skips several aborted transactions of one producer in one fetch and shows what it committed between them", () => {
    const batches = [
      batch(0, 2, { producerId: 7, transactional: true }),
      marker(2, 7, "abort"),
      batch(3, 1, { producerId: 7, transactional: true }),
      marker(4, 7, "commit"),
      batch(5, 2, { producerId: 7, transactional: true }),
      marker(7, 7, "abort"),
    ]
    const aborted = [{ producerId: 7, firstOffset: 5 }, { producerId: 7, firstOffset: 0 }]
    const records = readable(fetched({ batches, aborted }), 0)
    assert.deepStrictEqual([[...records.offsets], records.next], [[3], 8])
  })

  it("starts at the position when it is inside a batch, and counts removed records as gaps", () => {
    const compacted = batch(4, 6, {
      offsets: [5, 8],
      keys: [null, null],
      values: [null, null],
      headers: [[], []],
      timestamps: [0, 0],
    })
    const records = readable(fetched({ batches: [batch(0, 4, {}), compacted] }), 2)
    assert.deepStrictEqual([[...records.offsets], records.next], [[2, 3, 5, 8], 10])
  })
})
