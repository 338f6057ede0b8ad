/**
 * What pipelines of random stages must come to, computed over all of the input at once, from what the stages promise and
 * without any of the library: no batches, no state that outlives a call, nothing incremental.
 */

/** A value on its way, with what is known of it. */
export interface Value {
  /** The row of the input that caused it, and what it fails with: that row, or itself where it was made of many. */
  readonly row: number
  readonly unit: number | object
  readonly key: string | null
  readonly id: string
  readonly n: number
  /** Event time. */
  readonly at: number
  /** Stream time when it came. */
  readonly clock: number
}

export interface Sent {
  readonly topic: string
  readonly row: number
  readonly unit: number | object
  readonly key: string | null
  readonly value: string
}

export interface Failure {
  readonly row: number
  readonly unit: number | object
  readonly reason: string
}

/** All that a flow has come to behind one of its stages. */
export interface Stream {
  readonly values: ReadonlyArray<Value>
  /** Stream time after each row of the input. */
  readonly clock: ReadonlyArray<number>
  readonly sent: ReadonlyArray<Sent>
  readonly failed: ReadonlyArray<Failure>
  /** By row and reason. */
  readonly dropped: ReadonlyArray<string>
}

export type Reference = (stream: Stream) => Stream

export const map = (f: (value: Value) => Partial<Value>): Reference => (stream) => ({
  ...stream,
  values: stream.values.map((value) => ({ ...value, ...f(value) })),
})

export const filter = (is: (value: Value) => boolean): Reference => (stream) => ({
  ...stream,
  values: stream.values.filter(is),
  dropped: [...stream.dropped, ...stream.values.filter((value) => !is(value)).map(({ row }) => `${row} filtered`)],
})

export const flatMap = (f: (value: Value) => ReadonlyArray<Partial<Value>>): Reference => (stream) => ({
  ...stream,
  values: stream.values.flatMap((value) => f(value).map((one) => ({ ...value, ...one }))),
  dropped: [
    ...stream.dropped,
    ...stream.values.filter((value) => f(value).length === 0).map(({ row }) => `${row} empty`),
  ],
})

/** What fails takes along whatever came of the same record. */
export const refuse = (reason: string, is: (value: Value) => boolean): Reference => (stream) => {
  const refused = new Map(stream.values.filter(is).map((value) => [value.unit, value]))
  return {
    ...stream,
    values: stream.values.filter(({ unit }) => !refused.has(unit)),
    sent: stream.sent.filter(({ unit }) => !refused.has(unit)),
    failed: [...stream.failed, ...Array.from(refused.values(), ({ row, unit }) => ({ row, unit, reason }))],
  }
}

export const send = (topic: string, text: (value: Value) => string): Reference => (stream) => ({
  ...stream,
  sent: [
    ...stream.sent,
    ...stream.values.map((value) => ({ topic, row: value.row, unit: value.unit, key: value.key, value: text(value) })),
  ].sort((a, b) => a.row - b.row),
})

/** The first of each id goes on. */
export const deduplicate: Reference = (stream) => {
  const first = (value: Value, i: number) => stream.values.findIndex(({ id }) => id === value.id) === i
  return {
    ...stream,
    values: stream.values.filter(first),
    dropped: [
      ...stream.dropped,
      ...stream.values.filter((value, i) => !first(value, i)).map(({ row }) => `${row} repeat`),
    ],
  }
}

/** Values for which `is` holds take a way of their own, and meet the others in the order of rows and time. */
export const branch = (is: (value: Value) => boolean, body: Reference): Reference => (stream) => {
  const through = body({ ...stream, values: stream.values.filter(is), failed: [] })
  const lost = undone(through.failed)
  return {
    ...through,
    values: [
      ...stream.values.filter((value) => !is(value) && !lost.has(value.unit)),
      ...through.values,
    ].sort((a, b) => a.row - b.row || a.clock - b.clock),
    failed: [...stream.failed, ...through.failed],
  }
}

/** What failures other than lateness have undone. */
const undone = (failed: ReadonlyArray<Failure>): ReadonlySet<unknown> =>
  new Set(failed.filter(({ reason }) => reason !== "Late").map(({ unit }) => unit))

/** What of a stream has a key; the rest fails, unless `late` has already said so. */
const keyed = (stream: Stream, late: (value: Value) => boolean): Stream =>
  refuse("Keyless", (value) => value.key === null && !late(value))(stream)

/** The first row at which stream time is `at` or later; none where it never is. */
const reached = (clock: ReadonlyArray<number>, at: number): number => clock.findIndex((time) => time >= at)

/** A record is late once, whatever came of it. */
const late = (values: ReadonlyArray<Value>): ReadonlyArray<Failure> =>
  [...new Map(values.map((value) => [value.unit, value])).values()].map(({ row, unit }) => ({
    row,
    unit,
    reason: "Late",
  }))

export interface Windows {
  readonly size: number
  readonly every: number
  readonly grace: number
}

/** The starts of the windows that a time is in, the latest first. */
const startsOf = ({ size, every }: Windows, at: number): ReadonlyArray<number> => {
  const starts: Array<number> = []
  for (let start = Math.floor(at / every) * every; start > at - size; start -= every) starts.push(start)
  return starts
}

/** Final sums per key and window that stream time has closed. */
export const windows = (of: Windows): Reference => (stream) => {
  const isLate = (value: Value, start: number) => start + of.size <= value.clock - of.grace
  const missed = (value: Value) => startsOf(of, value.at).filter((start) => isLate(value, start))
  const lateInAll = (value: Value) => missed(value).length === startsOf(of, value.at).length
  const kept = keyed(stream, lateInAll)
  const sums = new Map<string, { key: string; start: number; n: number }>()
  for (const value of stream.values) {
    if (value.key === null) continue
    for (const start of startsOf(of, value.at).filter((start) => !isLate(value, start))) {
      const id = `${start} ${value.key}`
      sums.set(id, { key: value.key, start, n: (sums.get(id)?.n ?? 0) + value.n })
    }
  }
  const values = [...sums.values()].flatMap(({ key, start, n }): ReadonlyArray<Value> => {
    const row = reached(stream.clock, start + of.size + of.grace)
    return row === -1 ? [] : [{ row, unit: {}, key, id: key, n, at: start, clock: start }]
  })
  return {
    ...kept,
    values: values.sort((a, b) => a.row - b.row || a.at - b.at),
    clock: stream.clock.map((time) => Math.floor((time - of.grace - of.size) / of.every) * of.every),
    failed: [
      ...kept.failed,
      ...late(
        stream.values.filter((value) => missed(value).length > 0 && (value.key !== null || lateInAll(value))),
      ),
    ],
  }
}

/** The last sum of every key. */
export const totals: Reference = (stream) => {
  const kept = keyed(stream, () => false)
  const last = new Map<string, Value>()
  for (const value of stream.values) {
    if (value.key === null) continue
    last.set(value.key, { ...value, unit: {}, id: value.key, n: (last.get(value.key)?.n ?? 0) + value.n })
  }
  return { ...kept, values: [...last.values()] }
}
