/** One side of a join of two streams: its records that may still find a partner. */
import { Schema } from "effect"
import type { Placed } from "../../Batch.ts"
import type { LoggedStore, StoreSpec } from "../../Task.ts"

/** A record that waits for partners, as it is logged; its value is named after its side. */
export interface Kept {
  readonly key: string
  /** Event time. */
  readonly at: number
  readonly left?: unknown
  readonly right?: unknown
  /** Whether it has had a partner: kept where a record without one is a result of its own. */
  readonly matched?: true
}

export const spec = (
  name: string,
  left: Schema.Codec<unknown, unknown>,
  right: Schema.Codec<unknown, unknown>,
): StoreSpec<Kept> => ({
  name,
  value: Schema.Struct({
    key: Schema.String,
    at: Schema.Finite,
    left: Schema.optionalKey(left),
    right: Schema.optionalKey(right),
    matched: Schema.optionalKey(Schema.Literal(true)),
  }),
})

/** Where a record comes from. It is kept under that, so that one that is read again is not two. */
export interface Origin {
  readonly topic: string
  readonly partition: number
  /** Of what a tick has caused, half before the one that the next record will have: it is not that record. */
  readonly offset: number
  /** Which of the values of its record, or of all ticks before the next record. */
  readonly nth: number
}

const idOf = (side: string, { topic, partition, offset, nth }: Origin): string =>
  `${side}:${topic}:${partition}:${offset}:${nth}`

const originOf = (id: string): Origin => {
  const [, topic, partition, offset, nth] = id.split(":") as [string, string, string, string, string]
  return { topic, partition: Number(partition), offset: Number(offset), nth: Number(nth) }
}

/** The place of a row's record, for what is wrong with it. */
export const placeOf = ({ id }: Row): Placed => {
  const { topic, partition, offset } = originOf(id)
  return {
    source: { topic: { name: topic }, partition, offsets: [Math.ceil(offset)], next: offset + 1 },
    rows: undefined,
  }
}

export class Row {
  readonly side: JoinSide
  readonly id: string
  readonly topic: string
  readonly offset: number
  readonly nth: number
  readonly key: string
  readonly at: number
  readonly value: unknown
  /** The last stream time at which a partner can come. */
  readonly until: number
  matched: boolean

  constructor(side: JoinSide, id: string, origin: Origin, key: string, at: number, value: unknown, matched: boolean) {
    this.side = side
    this.id = id
    this.topic = origin.topic
    this.offset = origin.offset
    this.nth = origin.nth
    this.key = key
    this.at = at
    this.value = value
    this.until = at + side.options.ahead + side.options.grace
    this.matched = matched
  }
}

/** The order of the rows of one side: by event time, then by where they come from. */
export const isBefore = (a: Row, b: Row): boolean => {
  if (a.at !== b.at) return a.at < b.at
  if (a.topic !== b.topic) return a.topic < b.topic
  return a.offset < b.offset || a.offset === b.offset && a.nth < b.nth
}

export interface SideOptions {
  readonly name: "left" | "right"
  /** How far behind and ahead of a record's time its partners are; milliseconds. */
  readonly behind: number
  readonly ahead: number
  readonly grace: number
  /** Whether a record without a partner is a result of its own. */
  readonly isKept: boolean
}

/** The rows of one key, in order; those before `from` are gone. */
interface Rows {
  list: Array<Row>
  from: number
}

export class JoinSide {
  readonly options: SideOptions
  readonly #store: LoggedStore<Kept>
  readonly #keys = new Map<string, Rows>()

  constructor(store: LoggedStore<Kept>, options: SideOptions) {
    this.options = options
    this.#store = store
    for (const [id, kept] of store.entries()) {
      if (!id.startsWith(options.name)) continue
      const { key, at, matched = false } = kept
      this.#insert(new Row(this, id, originOf(id), key, at, kept[options.name], matched))
    }
  }

  /** All rows, in no particular order. */
  *rows(): Iterable<Row> {
    for (const { list, from } of this.#keys.values()) yield* list.slice(from)
  }

  row(origin: Origin, key: string, at: number, value: unknown, matched: boolean): Row {
    return new Row(this, idOf(this.options.name, origin), origin, key, at, value, matched)
  }

  /** Keeps a row; answers whether it is a new one: under at-least-once one that is read again may be there already. */
  add(row: Row): boolean {
    if (this.#store.get(row.id) !== undefined) return false
    this.#log(row)
    this.#insert(row)
    return true
  }

  /** The rows of a key with event times from `first` to `last`, in order. */
  between(key: string, first: number, last: number): ReadonlyArray<Row> {
    const rows = this.#keys.get(key)
    if (rows === undefined) return none
    const { list } = rows
    const start = place(list, rows.from, (row) => row.at < first)
    let end = start
    while (end < list.length && list[end]!.at <= last) end++
    return start === end ? none : list.slice(start, end)
  }

  /** A partner has come. */
  match(row: Row): void {
    if (!this.options.isKept || row.matched) return
    row.matched = true
    this.#log(row)
  }

  /** Lets go of the first row of its key. */
  remove({ id, key }: Row): void {
    this.#store.delete(id)
    const rows = this.#keys.get(key)!
    rows.from++
    if (rows.from === rows.list.length) this.#keys.delete(key)
    else if (rows.from > 32 && rows.from * 2 > rows.list.length) {
      rows.list = rows.list.slice(rows.from)
      rows.from = 0
    }
  }

  #log({ id, key, at, value, matched }: Row): void {
    const kept = this.options.name === "left" ? { key, at, left: value } : { key, at, right: value }
    this.#store.set(id, matched ? { ...kept, matched } : kept)
  }

  #insert(row: Row): void {
    const rows = this.#keys.get(row.key)
    if (rows === undefined) return void this.#keys.set(row.key, { list: [row], from: 0 })
    const { list, from } = rows
    if (isBefore(list.at(-1)!, row)) list.push(row)
    else list.splice(place(list, from, (other) => isBefore(other, row)), 0, row)
  }
}

const none: ReadonlyArray<never> = []

/** The first place from `from` on of a row for which `precedes` does not hold; those for which it holds come first. */
const place = (list: ReadonlyArray<Row>, from: number, precedes: (row: Row) => boolean): number => {
  let low = from
  let high = list.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (precedes(list[middle]!)) low = middle + 1
    else high = middle
  }
  return low
}
