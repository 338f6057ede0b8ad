/** Two tables as one. */
import { type Duration, Effect, type Schema } from "effect"
import { type Batch, RecordDefect } from "../../Batch.ts"
import type { Flow } from "../../Flow.ts"
import { Rows, spec } from "../../state/Rows.ts"
import { Logged, type PipelineError, type Task } from "../../Task.ts"
import { type Change, changes, deletion, type Table, upsert } from "../Change.ts"
import { Beside, beside, deletionsByDefault, type Kind, millis } from "./Joined.ts"
import { type Out, type PerRecord, perRecord } from "./PerRecord.ts"
import { groupKey, type Keyless } from "../Window.ts"

/** For which keys there is a row: those of both tables (`inner`), of the left one (`left`), or of any (`outer`). */
export type TablesKind = Kind | "outer"

export interface TablesOptions<in A, in B, C, K extends TablesKind = TablesKind> {
  /** Names the stores `<name>-left` and `<name>-right`, and with them the changelog topics. */
  readonly name: string
  /** `inner` unless told. */
  readonly kind?: K
  join(left: K extends "outer" ? A | undefined : A, right: K extends "inner" ? B : B | undefined): C
  /** The rows that `join` makes. */
  readonly row: Schema.Codec<C, unknown>
  /** How long a deletion is remembered in stream time, so that an older row that comes after it loses; 1 day by default. */
  readonly deletions?: Duration.Input
  /** The silence after which one input stops holding the other back, as in `merge`; 5 seconds by default. */
  readonly idle?: Duration.Input
}

/**
 * Joins two tables of the same keys and partitions into one. Whenever a row of either side changes, the row that comes of
 * both as they then are goes on; a deletion when there is none any more, and nothing where there was none.
 *
 * Of a row's changes on one side the one of the latest event time counts, of those of one time the last: what comes out
 * of order and is older loses, and is dropped as `superseded`. A change of the result has the later time of the two sides'
 * last ones, so that the times of a key never go back. The rows in the end are given by the two logs, whatever the order
 * in which they are read. A record without a key is `Keyless`. Memory and changelog: one entry per row of either side, and
 * one per deletion of the last `deletions`.
 */
export const tables = <A, B, C, F2, E2, R2, K extends TablesKind = "inner">(
  right: Table<B, F2, E2, R2>,
  options: TablesOptions<A, B, C, K>,
) => {
  const { name, idle } = options
  const deletions = millis(name, "deletions", options.deletions ?? deletionsByDefault, 0)
  return <F, E, R>(
    left: Table<A, F, E, R>,
  ): Table<C, F | F2 | Keyless, E | E2 | PipelineError, R | R2 | Task | Logged> => {
    const ofLeft = spec(`${name}-left`, left.row)
    const ofRight = spec(`${name}-right`, right.row)
    const open = Effect.gen(function* () {
      const logged = yield* Logged
      const store = yield* logged.store(ofLeft)
      const rows = [new Rows(store, deletions), new Rows(yield* logged.store(ofRight), deletions)] as const
      return [store, new TwoTables(...rows, options)] as const
    })
    const stage = perRecord<Change<A> | Beside<B>, Change<C>, Keyless>(name, open, {
      stage: "join",
      stores: [ofLeft, ofRight],
    })
    return (left as Flow<Change<A>, F, E, R>).pipe(beside(right, idle), stage, changes(options.row))
  }
}

class TwoTables<A, B, C, K extends TablesKind> implements PerRecord<Change<A> | Beside<B>, Change<C>, Keyless> {
  readonly #left: Rows<A>
  readonly #right: Rows<B>
  readonly #options: TablesOptions<A, B, C, K>

  constructor(left: Rows<A>, right: Rows<B>, options: TablesOptions<A, B, C, K>) {
    this.#left = left
    this.#right = right
    this.#options = options
  }

  advance(now: number): void {
    this.#left.advance(now)
    this.#right.advance(now)
  }

  add(
    value: Change<A> | Beside<B>,
    timestamp: number,
    i: number,
    batch: Batch<unknown, unknown>,
    out: Out<Change<C>, Keyless>,
  ): void {
    const key = groupKey(batch, i, this.#options.name)
    if (typeof key !== "string") return out.fail(batch, i, key)
    const existed = this.#exists(key)
    const counts = value instanceof Beside
      ? this.#right.put(key, timestamp, value.change.row)
      : this.#left.put(key, timestamp, value.row)
    if (!counts) return out.drop(batch, i, "superseded")
    out.folded++
    const exists = this.#exists(key)
    if (!exists && !existed) return
    const at = Math.max(timestamp, this.#left.changedAt(key), this.#right.changedAt(key))
    out.emit(exists ? upsert(this.#join(key, batch, i)) : deletion, i, at)
  }

  #exists(key: string): boolean {
    const { kind } = this.#options
    const left = this.#left.get(key) !== undefined
    if (kind === "left") return left
    const right = this.#right.get(key) !== undefined
    return kind === "outer" ? left || right : left && right
  }

  #join(key: string, batch: Batch<unknown, unknown>, i: number): C {
    const { join } = this.#options as unknown as TablesOptions<A | undefined, B | undefined, C>
    try {
      return join(this.#left.get(key), this.#right.get(key))
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }
}
