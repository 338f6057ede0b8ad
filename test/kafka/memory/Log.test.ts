/** The log against a list of everything that was written to it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import type { Log } from "../../../src/kafka/memory/Log.ts"
import { readable } from "../../../src/kafka/ReadCommitted.ts"
import { type Dice, forSeeds } from "../../support/Seeds.ts"
import { newLog, records } from "./Fixtures.ts"

interface Written {
  readonly offset: number
  readonly value: string
  /** The transaction it belongs to. */
  readonly txn: Transaction | undefined
}

interface Transaction {
  decision: "commit" | "abort" | undefined
  /** Where it was decided. */
  marker: number
}

/** What readers are to see of it, when the log ends at `end`. */
const visibleOf = (written: ReadonlyArray<Written>, end: number) => {
  const left = written.filter(({ offset }) => offset < end)
  const firstOpen = left.find(({ txn }) => txn !== undefined && txn.marker >= end)?.offset ?? end
  const visible = left.filter(({ offset, txn }) =>
    offset < firstOpen && (txn === undefined || txn.decision === "commit")
  )
  return { firstOpen, visible: visible.map(({ offset, value }) => [offset, value] as const) }
}

/** Random transactions of several producers, and plain batches between them. */
const history = (dice: Dice, log: Log) => {
  const written: Array<Written> = []
  const open = new Map<number, Transaction>()
  const sequences = new Map<number, number>()
  let next = 0
  for (let step = 0; step < 120; step++) {
    const producerId = dice.int(1, 4)
    const values = dice.list(1, 5, () => `${next++}-${"x".repeat(dice.int(0, 30))}`)
    const one = open.get(producerId)
    const action = dice.int(0, 9)
    if (action < 2) {
      const base = log.append(records(values), undefined, false, 0)
      values.forEach((value, i) => written.push({ offset: base + i, value, txn: undefined }))
    } else if (action < 8) {
      const txn = one ?? { decision: undefined, marker: Infinity }
      const baseSequence = sequences.get(producerId) ?? 0
      const base = log.append(records(values), { producerId, producerEpoch: 0, baseSequence }, true, 0)
      sequences.set(producerId, baseSequence + values.length)
      open.set(producerId, txn)
      values.forEach((value, i) => written.push({ offset: base + i, value, txn }))
    } else {
      const decision = dice.pick(["commit", "abort"] as const)
      if (one !== undefined) Object.assign(one, { decision, marker: log.end })
      log.mark(producerId, 0, decision, 0)
      open.delete(producerId)
    }
  }
  return written
}

const readAll = (dice: Dice, log: Log): ReadonlyArray<readonly [number, string]> => {
  const seen: Array<readonly [number, string]> = []
  for (let position = 0;;) {
    const answer = log.answer(log.read(position, dice.int(0, 600), true))
    assert.strictEqual(answer.lastStableOffset, log.lastStable)
    const { offsets, bytes, next } = readable(answer, position)
    bytes.forEach((value, i) => seen.push([offsets[i]!, Buffer.from(value!).toString()]))
    if (next === position) return seen
    position = next
  }
}

describe("Log", () => {
  it.effect("shows the committed records in order, however they are fetched", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const log = newLog()
        const { firstOpen, visible } = visibleOf(history(dice, log), log.end)
        assert.strictEqual(log.lastStable, firstOpen)
        assert.deepStrictEqual(readAll(dice, log), visible)
      })))

  it.effect("loses exactly what stands at an offset and above", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const log = newLog()
        const written = history(dice, log)
        const cut = dice.int(0, log.end)
        log.truncate(cut, 0)
        assert.isAtMost(log.end, cut)
        const { firstOpen, visible } = visibleOf(written, log.end)
        assert.strictEqual(log.lastStable, firstOpen)
        assert.deepStrictEqual(readAll(dice, log), visible)
        const again = log.append(records(["again"]), undefined, false, 0)
        assert.strictEqual(again, log.end - 1)
      })))

  it("holds no more memory than the bytes of its records", () => {
    const log = newLog()
    const pool = Buffer.alloc(1_000_000)
    const value = pool.subarray(10, 40)
    log.append({ ...records(["x"]), values: [value], headers: [[["h", pool.subarray(0, 2)]]] }, undefined, false, 0)
    pool.fill(1)
    const { batches: [batch] } = log.answer(log.read(0, 1_000, true))
    assert.strictEqual(batch!.values[0]!.buffer.byteLength, 30)
    assert.strictEqual(batch!.headers[0]![0]![1].buffer.byteLength, 2)
    assert.deepStrictEqual([...batch!.values[0]!.subarray(0, 2)], [0, 0], "a copy, not a view of what was given")
  })

  it("stamps records itself where the topic says so", () => {
    const log = newLog({ "message.timestamp.type": "LogAppendTime" })
    log.append(records(["a"], 5), undefined, false, 1_000)
    assert.deepStrictEqual(log.answer(log.read(0, 1_000, true)).batches[0]!.timestamps, [1_000])
  })
})
