/** Tables in Postgres as what lookups ask. */
import { Effect, Result, Schema } from "effect"
import { Postgres, type Sql } from "../sinks/Postgres.ts"
import { refusesValues } from "../sinks/PostgresPool.ts"
import { Undecodable } from "../stages/lookups/LookupAnswer.ts"
import type { PipelineError } from "../Task.ts"
import { invalid } from "../Topic.ts"

type Rows = PromiseLike<ReadonlyArray<Readonly<Record<string, unknown>>>>

type Found<V> = ReadonlyMap<string, V | Undecodable>

interface Table<V> {
  /** The column of the answer that holds the key; what is not text is taken as JavaScript's text of it, null for no row. */
  readonly key: string
  /** What a row is, its columns by name; a row that is not is `Undecodable`, and the others are answered all the same. */
  readonly row: Schema.Codec<V, unknown>
}

export interface RowsOptions<V> extends Table<V> {
  /** Selects the rows of keys: `` (sql, keys) => sql`select id, name from devices where id = any(${keys})` ``. */
  query(sql: Sql, keys: Array<string>): Rows
}

export interface AllOptions<V> extends Table<V> {
  /** Selects all rows. */
  query(sql: Sql): Rows
}

/**
 * For `Lookup.make`: one query for many keys, over the pool that the `Postgres` service holds. Where a key has several rows
 * the last one counts. A query whose time is up goes on in the database, and holds its connection until it is done.
 *
 * Where the database refuses the query because of a key, as of a text that is no number, that key is `Undecodable` and the
 * others are answered: they are asked for again in halves.
 */
export const rows = <V>(
  options: RowsOptions<V>,
): (keys: ReadonlyArray<string>) => Effect.Effect<Found<V>, PipelineError, Postgres> => {
  const ask = (keys: ReadonlyArray<string>): Effect.Effect<Found<V>, PipelineError, Postgres> =>
    Effect.catchIf(selected(options, (sql) => options.query(sql, [...keys])), refusesValues, ({ message }) => {
      if (keys.length === 1) return Effect.succeed(new Map([[keys[0]!, new Undecodable({ field: "key", message })]]))
      const half = keys.length >> 1
      return Effect.zipWith(ask(keys.slice(0, half)), ask(keys.slice(half)), (a, b) => new Map([...a, ...b]))
    })
  return ask
}

/** For `Lookup.reference`: a whole table. */
export const all = <V>(options: AllOptions<V>): Effect.Effect<Found<V>, PipelineError, Postgres> =>
  selected(options, options.query)

const selected = <V>(
  { key, row }: Table<V>,
  query: (sql: Sql) => Rows,
): Effect.Effect<Found<V>, PipelineError, Postgres> => {
  const decode = Schema.decodeUnknownResult(row)
  return Effect.gen(function* () {
    const pool = yield* Postgres
    const rows = yield* pool.query(query)
    const found = new Map<string, V | Undecodable>()
    for (const one of rows) {
      if (one[key] === undefined) throw new TypeError(`the query of a lookup answers no column ${key}`)
      if (one[key] === null) continue
      found.set(String(one[key]), Result.getOrElse(decode(one), (error) => new Undecodable(invalid(error))))
    }
    return found
  })
}
