/** The versioned table of an as-of join, and what becomes of a record that looks into it. */
import type { Duration } from "effect"
import { type Placed, RecordDefect } from "../../Batch.ts"
import type { Versions } from "../../state/Versions.ts"
import type { Kind, Match } from "./Joined.ts"
import { Late } from "../Window.ts"

export interface AsOf<in A, in Row, out B, K extends Kind = Kind> {
  /** Names the store, and with it the changelog topic. */
  readonly name: string
  /** `inner` unless told. */
  readonly kind?: K
  join(value: A, row: Match<Row, K>): B
  /** How far behind stream time a record may be and still find the row of its time. */
  readonly history: Duration.Input
  /**
   * How long a deletion is remembered in stream time, so that an older row that comes after it loses; 1 day by default, and
   * at least `history`.
   */
  readonly deletions?: Duration.Input
  /** The silence after which one input stops holding the other back, as in `merge`; 5 seconds by default. */
  readonly idle?: Duration.Input
}

/** There is no row, and an inner join needs one. */
export const unmatched: unique symbol = Symbol("unmatched")

export class Lookup<A, Row, B, K extends Kind> {
  readonly versions: Versions<Row>
  readonly #options: AsOf<A, Row, B, K>

  constructor(versions: Versions<Row>, options: AsOf<A, Row, B, K>) {
    this.versions = versions
    this.#options = options
  }

  get name(): string {
    return this.#options.name
  }

  /** The record at a place with the row of its time. */
  join(
    key: string,
    time: number,
    value: A,
    placed: Placed,
    i: number,
  ): B | typeof unmatched {
    const { kind, join } = this.#options
    const row = this.versions.at(key, time)
    if (row === undefined && kind !== "left") return unmatched
    try {
      return join(value, row as Match<Row, K>)
    } catch (cause) {
      throw new RecordDefect(placed, i, cause)
    }
  }

  /** Why there is no answer for a time that the history does not reach back to; `undefined` where there is one. */
  late(time: number): Late | undefined {
    const { horizon, history } = this.versions
    if (time >= horizon) return undefined
    return new Late({
      message: `join ${this.name} remembers rows as they were from ${horizon} on, and this record is of ${time}`,
      windowEnd: time + history,
    })
  }
}
