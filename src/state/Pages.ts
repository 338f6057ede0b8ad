/** Pages of entries that are in no order where they are kept. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"

/** Where an entry is in the order of all: by its key, then by its window, then by its partition. */
export interface Place {
  readonly key: string
  /** 0 for entries without a window. */
  readonly start: number
  readonly partition: number
}

const Cursor = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Tuple([Schema.String, Schema.Finite, Schema.Int])),
)

export const encodeCursor = ({ key, start, partition }: Place): string =>
  Buffer.from(JSON.stringify([key, start, partition])).toString("base64url")

/** Nothing where the text is no cursor. */
export const decodeCursor = (cursor: string): Place | undefined => {
  const decoded = Cursor(Buffer.from(cursor, "base64url").toString())
  if (decoded._tag === "None") return undefined
  const [key, start, partition] = decoded.value
  return { key, start, partition }
}

const compare = (key: string, start: number, partition: number, other: Place): number => {
  if (key !== other.key) return key < other.key ? -1 : 1
  return start - other.start || partition - other.partition
}

/** The first so many of the entries that come after a place. */
export class FirstAfter<A extends Place> {
  readonly entries: Array<A> = []
  readonly #after: Place | undefined
  readonly #most: number

  constructor(after: Place | undefined, most: number) {
    this.#after = after
    this.#most = most
  }

  /** Whether an entry would be among them, as far as is known. */
  takes(key: string, start: number, partition: number): boolean {
    const { entries } = this
    if (entries.length === this.#most && compare(key, start, partition, entries[this.#most - 1]!) > 0) return false
    return this.#after === undefined || compare(key, start, partition, this.#after) > 0
  }

  /** Adds an entry that it takes. */
  add(entry: A): void {
    const { entries } = this
    let low = 0
    let high = entries.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (compare(entry.key, entry.start, entry.partition, entries[middle]!) > 0) low = middle + 1
      else high = middle
    }
    entries.splice(low, 0, entry)
    if (entries.length > this.#most) entries.pop()
  }
}
