/** Batches of retry topics as a stage is given them again, and the values of a batch that are tried together. */
import { Result } from "effect"
import type { Batch, Failed } from "../../Batch.ts"
import { keyBytes, row, unitOf } from "../../Batch.ts"
import { keyText } from "./Parking.ts"
import { laterOf, type Policy } from "./Policies.ts"
import type { Order, RetryTopics, Unretriable } from "../Retry.ts"
import * as RetryRecord from "./RetryRecord.ts"

/** A retry topic: how often its records have failed at least. 0 for that of records that waited behind others. */
export interface Level<A> {
  readonly topic: string
  readonly set: RetryTopics<A, Order>
  readonly level: number
  /** What may have sent a record there. */
  readonly reasons: ReadonlySet<string>
}

/** The retry topics of a stage by name. */
export const levelsOf = <A>(
  sets: ReadonlyArray<RetryTopics<A, Order>>,
  policies: ReadonlyMap<string, Policy<never, never>>,
): ReadonlyMap<string, Level<A>> => {
  const levels = new Map<string, Level<A>>()
  for (const set of sets) {
    const tags = [...policies].flatMap(([tag, policy]) => laterOf(policy)?.topics as unknown === set ? [tag] : [])
    const reasons = new Set(tags)
    set.levels.forEach(({ name }, i) => levels.set(name, { topic: name, set, level: i + 1, reasons }))
    if (set.turn !== undefined) levels.set(set.turn.name, { topic: set.turn.name, set, level: 0, reasons })
  }
  return levels
}

/** The values of one row or unit: they are tried together. */
export interface Group extends RetryRecord.Group {
  readonly unit: number
  /** Its key, where order is kept and it has one. */
  readonly key: string | undefined
  /** Its number among the records of its key, where it has come back. */
  readonly sequence: number | undefined
}

/** A batch of a retry topic as it came back, by row what its record says, and the rows that cannot be tried. */
export interface ComeBack<A> {
  readonly batch: Batch<A>
  readonly returned: ReadonlyArray<RetryRecord.Returned<A> | undefined>
  readonly failed: ReadonlyArray<Failed<Unretriable>>
}

/** Reads a batch of a retry topic. Its values have their own event time, and stream time is that of the flow. */
export const comeBack = <A>(
  { source }: Batch<unknown>,
  stage: string,
  { set, level, reasons }: Level<A>,
  streamTime: number,
): ComeBack<A> => {
  const returned: Array<RetryRecord.Returned<A> | undefined> = []
  const failed: Array<Failed<Unretriable>> = []
  const values: Array<A> = []
  const rows: Array<number> = []
  const timestamps: Array<number> = []
  for (let row = 0; row < source.length; row++) {
    const read = RetryRecord.read(source.headers[row]!, { stage, input: set.input, level, reasons })
    if (Result.isFailure(read)) {
      returned.push(undefined)
      failed.push({ row, reason: read.failure })
      continue
    }
    const record = read.success
    returned.push(record)
    for (let i = 0; i < record.values.length; i++) {
      values.push(record.values[i]!)
      rows.push(row)
      timestamps.push(record.times?.[i] ?? source.timestamps[row]!)
    }
  }
  const hasTime = streamTime > -Infinity || returned.some((record) => record?.times !== undefined)
  return {
    batch: {
      source,
      values,
      rows: Uint32Array.from(rows),
      keys: undefined,
      units: undefined,
      time: hasTime
        ? {
          timestamps: Float64Array.from(timestamps),
          clock: new Float64Array(values.length).fill(streamTime),
          rowClock: new Float64Array(source.length).fill(streamTime),
          now: streamTime,
        }
        : undefined,
      clockAfter: undefined,
      failed: [],
      dropped: [],
      folded: [],
      outgoing: [],
      changes: [],
    },
    returned,
    failed,
  }
}

/** The groups of a batch, in order; with keys where that of each key is kept. */
export const groupsOf = (
  batch: Batch<unknown, unknown>,
  keepsOrder: boolean,
  returned: ComeBack<unknown>["returned"] = [],
): ReadonlyArray<Group> => {
  const groups: Array<Group> = []
  const { length } = batch.values
  for (let from = 0; from < length;) {
    const unit = unitOf(batch, from)
    let to = from + 1
    while (to < length && unitOf(batch, to) === unit) to++
    const key = keepsOrder ? keyBytes(batch, from) : null
    groups.push({
      unit,
      from,
      to,
      key: key == null ? undefined : keyText(key),
      sequence: returned[row(batch, from)]?.sequence,
    })
    from = to
  }
  return groups
}

/** Groups in the order they are tried: no two of one key at the same time. */
export const wavesOf = (groups: ReadonlyArray<Group>): ReadonlyArray<ReadonlyArray<Group>> => {
  const waves: Array<Array<Group>> = [[]]
  const before = new Map<string, number>()
  for (const group of groups) {
    const wave = group.key === undefined ? 0 : before.get(group.key) ?? 0
    if (group.key !== undefined) before.set(group.key, wave + 1)
    const list = waves[wave]
    if (list === undefined) waves.push([group])
    else list.push(group)
  }
  return waves
}
