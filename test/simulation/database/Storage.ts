/**
 * Rows in memory under read committed: a transaction sees what is committed and what it has written itself, and holds what
 * it has locked until it ends. Who waits for a lock, or stands idle in a transaction, does so for a bounded time.
 */
import { Clock, Duration, Effect } from "effect"
import { Task } from "../../../src/index.ts"

export type Row = Readonly<Record<string, unknown>>

/** A table's rows by primary key. */
type Rows = Map<string, Row>

const failed = (retriable: boolean, message: string) => new Task.PipelineError({ reason: "Sink", retriable, message })

export const broken = failed(true, "the connection to Postgres broke")
const lockTimedOut = failed(
  true,
  "Postgres refused a statement (SQLSTATE 55P03): canceling statement due to lock timeout",
)

/** How often who waits for a lock looks, in milliseconds. */
const look = 20

export class Storage {
  readonly #tables = new Map<string, Rows>()
  readonly #locks = new Map<string, Transaction>()
  readonly #written = new Map<string, Array<Row>>()
  readonly clock: Clock.Clock
  /** Of idle transactions and of waiting for locks, in milliseconds. */
  readonly timeout: number
  #sequence = 0

  constructor(clock: Clock.Clock, timeout: number) {
    this.clock = clock
    this.timeout = timeout
  }

  rows(table: string): Rows {
    const known = this.#tables.get(table)
    if (known !== undefined) return known
    const rows: Rows = new Map()
    this.#tables.set(table, rows)
    return rows
  }

  /** What committed transactions were told to insert, in the order of their commits, repeats included. */
  written(table: string): Array<Row> {
    const known = this.#written.get(table) ?? []
    this.#written.set(table, known)
    return known
  }

  /** `isGone` tells whether the client's process has died: its connection is closed then, and its transaction undone. */
  begin(isGone: () => boolean): Transaction {
    return new Transaction(this, isGone)
  }

  next(): number {
    return ++this.#sequence
  }

  holder(lock: string): Transaction | undefined {
    const holder = this.#locks.get(lock)
    return holder?.isOpen === true ? holder : undefined
  }

  take(lock: string, by: Transaction): void {
    this.#locks.set(lock, by)
  }
}

export class Transaction {
  readonly #storage: Storage
  readonly #isGone: () => boolean
  readonly #written = new Map<string, Map<string, Row | undefined>>()
  readonly #inserted: Array<readonly [table: string, row: Row]> = []
  #idleSince: number | undefined
  #isOver = false

  constructor(storage: Storage, isGone: () => boolean) {
    this.#storage = storage
    this.#isGone = isGone
    this.#idleSince = this.#now
  }

  get #now(): number {
    return this.#storage.clock.currentTimeMillisUnsafe()
  }

  get isOpen(): boolean {
    if (this.#isOver) return false
    const isIdle = this.#idleSince !== undefined && this.#now - this.#idleSince >= this.#storage.timeout
    if (isIdle || this.#isGone()) this.#isOver = true
    return !this.#isOver
  }

  /** Runs a statement; fails where the server has ended the transaction meanwhile. */
  within<A>(statement: Effect.Effect<A, Task.PipelineError>): Effect.Effect<A, Task.PipelineError> {
    return Effect.suspend(() => {
      if (!this.isOpen) return Effect.fail(broken)
      this.#idleSince = undefined
      return Effect.onExit(statement, () =>
        Effect.sync(() => {
          this.#idleSince = this.#now
        }))
    })
  }

  lock(table: string, key: string): Effect.Effect<void, Task.PipelineError> {
    const name = `${table}/${key}`
    const until = this.#now + this.#storage.timeout
    const wait: Effect.Effect<void, Task.PipelineError> = Effect.suspend(() => {
      const holder = this.#storage.holder(name)
      if (holder === undefined || holder === this) {
        this.#storage.take(name, this)
        return Effect.void
      }
      if (this.#now >= until) return Effect.fail(lockTimedOut)
      return Effect.andThen(this.#storage.clock.sleep(Duration.millis(look)), wait)
    })
    return wait
  }

  get(table: string, key: string): Row | undefined {
    const own = this.#written.get(table)
    return own?.has(key) === true ? own.get(key) : this.#storage.rows(table).get(key)
  }

  all(table: string): ReadonlyArray<Row> {
    const rows = new Map<string, Row | undefined>(this.#storage.rows(table))
    for (const [key, row] of this.#written.get(table) ?? []) rows.set(key, row)
    return [...rows.values()].filter((row) => row !== undefined)
  }

  /** Of a row that is locked; without a row it is deleted. */
  put(table: string, key: string, row: Row | undefined): void {
    const own = this.#written.get(table) ?? new Map<string, Row | undefined>()
    this.#written.set(table, own.set(key, row))
  }

  /** Tells of a row that is inserted, whatever stands there already. */
  inserting(table: string, row: Row): void {
    this.#inserted.push([table, row])
  }

  commit(): void {
    for (const [table, row] of this.#inserted) this.#storage.written(table).push(row)
    for (const [table, written] of this.#written) {
      const rows = this.#storage.rows(table)
      for (const [key, row] of written) {
        if (row === undefined) rows.delete(key)
        else rows.set(key, row)
      }
    }
    this.#isOver = true
  }

  rollback(): void {
    this.#isOver = true
  }
}
