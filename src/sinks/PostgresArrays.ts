/** Arrays as parameters and results, for a driver that does not ask the database about its types. */
import type postgres from "postgres"
import * as PostgresArray from "postgres-array"

/** The object ids of a type and of the arrays of it. */
export interface ArrayType {
  readonly element: number
  readonly array: number
}

/**
 * The array types of a database; those of boxes, whose elements are not divided by commas, are left out.
 *
 * The driver would ask by itself whenever it connects (`fetch_types`), where nobody can catch the failure: a connection
 * that breaks at that moment ends the process, and the one after it takes arrays for text.
 */
export const arrayTypes = (sql: postgres.ISql): PromiseLike<ReadonlyArray<ArrayType>> =>
  sql<Array<ArrayType>>`select oid::int as element, typarray::int as array
    from pg_catalog.pg_type where typarray <> 0 and typdelim = ','`

/** What the driver keeps by object id, beyond what its types tell. */
interface Codecs {
  readonly parsers: Record<number, ((text: string) => unknown) | undefined>
  readonly serializers: Record<number, ((value: unknown) => string) | undefined>
  readonly shared: { readonly typeArrayMap: Record<number, number> }
}

/** Has a driver read and write these arrays as it reads and writes their elements. */
export const teach = (sql: postgres.Sql, types: ReadonlyArray<ArrayType>): void => {
  const { parsers, serializers, shared } = sql.options as unknown as Codecs
  for (const { element, array } of types) {
    const parse = parsers[element]
    const serialize = serializers[element] ?? String
    parsers[array] ??= (text) => parse === undefined ? PostgresArray.parse(text) : PostgresArray.parse(text, parse)
    serializers[array] ??= (value) => Array.isArray(value) ? literal(value, serialize) : String(value)
    shared.typeArrayMap[element] = array
  }
}

/** An array as Postgres reads it: https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO */
const literal = (values: ReadonlyArray<unknown>, serialize: (value: unknown) => string): string =>
  `{${
    values.map((value) => {
      if (value === null || value === undefined) return "NULL"
      if (Array.isArray(value)) return literal(value, serialize)
      return `"${serialize(value).replace(/["\\]/g, "\\$&")}"`
    }).join(",")
  }}`
