/** Random input for random pipelines, and what is compared of what they come to. */
import type { Rec } from "../support/FlowRunner.ts"
import type { Dice } from "../support/Seeds.ts"
import type * as Reference from "./Reference.ts"
import type { Reading } from "./Topologies.ts"

export interface Drawn {
  readonly record: Rec
  readonly value: Reading | undefined
}

/** Records of one partition: out of order, some damaged, some without a key. */
export const input = (dice: Dice): ReadonlyArray<Drawn> => {
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
export const decoded = (drawn: ReadonlyArray<Drawn>): Reference.Stream => {
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
export const results = (
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

/** What a reference says, in a form that can be compared. */
export const ofReference = ({ values, sent, failed, dropped }: Reference.Stream, table: boolean) => ({
  values: results(values.map(({ key, id, n }) => [key, `${id} ${n}`]), table),
  sent: results(sent.map(({ key, value }) => [key, value]), false),
  failed: failed.map(({ row, reason }) => `${row} ${reason}`).sort(),
  dropped: [...dropped].sort(),
})
