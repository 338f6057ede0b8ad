/**
 * What pipelines of random stages must come to, computed over all of the input at once, from what the documentation says
 * and without any of the library: no batches, no stores, no restarts. This file has what all references share.
 */

/** A record as it stands in its topic, or a tick of the wall clock that came between two records. */
export interface Came {
  readonly key: string | null
  readonly value: string | null
  /** Kafka's timestamp. */
  readonly timestamp: number
  /** When a change of a table happened, where its writer has said so. */
  readonly changedAt?: number
  /** Of a tick: how long the topic has been silent. */
  readonly silence?: number
}

/** A value on its way, with what is known of it. */
export interface Value {
  /** The row that caused it, in the order in which the task takes records and ticks. */
  readonly row: number
  /** What fails together: all that one record was made into, or one result that a fold made of many. */
  readonly unit: object
  readonly key: string | null
  readonly id: string
  readonly n: number
  /** Event time. */
  readonly at: number
  /** Stream time when it came. */
  readonly clock: number
  /** Of two flows that are joined: whether it is one of the right one. */
  readonly isRight?: boolean
  /** A change that deletes the row of its key. */
  readonly isGone?: boolean
}

export interface Sent {
  readonly topic: string
  readonly row: number
  readonly unit: object
  readonly key: string | null
  readonly value: string
  /** Stream time when it was written. */
  readonly clock: number
}

export interface Failure {
  readonly row: number
  readonly unit: object
  readonly reason: string
  /** Of what is late: whether it is in other windows all the same. */
  readonly isPartly?: boolean
}

/** All that a flow has come to behind one of its stages. */
export interface Stream {
  readonly values: ReadonlyArray<Value>
  /** Stream time after each row. */
  readonly clock: ReadonlyArray<number>
  /** The names of the rows, and when they arrived. */
  readonly places: ReadonlyArray<string>
  readonly arrivals: ReadonlyArray<number | undefined>
  readonly sent: ReadonlyArray<Sent>
  readonly failed: ReadonlyArray<Failure>
  readonly dropped: ReadonlyArray<{ readonly row: number; readonly reason: string }>
}

export type Reference = (stream: Stream) => Stream

export const all = (references: ReadonlyArray<Reference>): Reference => (stream) =>
  references.reduce((stream, reference) => reference(stream), stream)

/** A moment of a stage: stream time has gone on to `now`, and perhaps a value has come. */
export interface Instant {
  readonly row: number
  readonly now: number
  readonly before: number
  readonly value: Value | undefined
}

/** All that a stage sees, in order: values, and after those of each row its stream time. */
export const instants = ({ values, clock }: Stream): ReadonlyArray<Instant> => {
  const byRow = Map.groupBy(values, ({ row }) => row)
  let now = -Infinity
  const at = (row: number, clock: number, value?: Value): Instant => {
    const before = now
    now = Math.max(now, clock)
    return { row, now, before, value }
  }
  return clock.flatMap((time, row) => [
    ...(byRow.get(row) ?? []).map((value) => at(row, value.clock, value)),
    at(row, time),
  ])
}

/** What fails takes along whatever came of the same record, and fails once. */
export const refuse = (refused: ReadonlyArray<readonly [value: Value, reason: string]>): Reference => (stream) => {
  const first = new Map(refused.toReversed().map((one) => [one[0].unit, one]))
  return {
    ...stream,
    values: stream.values.filter(({ unit }) => !first.has(unit)),
    sent: stream.sent.filter(({ unit }) => !first.has(unit)),
    failed: [
      ...stream.failed,
      ...Array.from(first.values(), ([{ row, unit }, reason]) => ({ row, unit, reason })),
    ],
  }
}

/** What is late is so once, whatever came of the same record, and takes nothing along. */
export const late = (
  values: ReadonlyArray<Value>,
  isPartly: (value: Value) => boolean = () => false,
): ReadonlyArray<Failure> => {
  const first = values.filter(({ unit }, i) => values.findIndex((other) => other.unit === unit) === i)
  return first.map((value) => ({ row: value.row, unit: value.unit, reason: "Late", isPartly: isPartly(value) }))
}

/** What failures other than lateness have undone. */
export const undone = (failed: ReadonlyArray<Failure>): ReadonlySet<object> =>
  new Set(failed.filter(({ reason }) => reason !== "Late").map(({ unit }) => unit))

export const drop = (reason: string, values: ReadonlyArray<Value>): Stream["dropped"] =>
  values.map(({ row }) => ({ row, reason }))
