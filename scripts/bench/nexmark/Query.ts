/** What a query of the benchmark is: a pipeline, and what it must come to by a computation of its own. */
import type { Pipeline, Topic } from "../../../src/index.ts"
import type { Emitted } from "./Generator.ts"

export interface Query {
  /** Such as `q5`. */
  readonly name: string
  readonly title: string
  readonly pipeline: Pipeline.Pipeline<unknown, unknown>
  readonly results: Topic.Any
  /** Whether of the results of a key only the last one counts. */
  readonly keep: "all" | "latest"
  /** All results, in any order, of all events: without batches, state or any of the library. */
  readonly batch: (input: ReadonlyArray<Emitted>) => ReadonlyArray<Row>
}

export type Row = Readonly<Record<string, unknown>>

/** Results as text, whatever the order of their fields. */
export const written = (row: Row): string => JSON.stringify(row, Object.keys(row).sort())

/** What is missing in one of two multisets and how much is too much: nothing where they are equal. */
export const difference = (rows: ReadonlyArray<Row>, expected: ReadonlyArray<Row>): Array<string> => {
  const counts = new Map<string, number>()
  for (const row of expected) {
    const text = written(row)
    counts.set(text, (counts.get(text) ?? 0) + 1)
  }
  for (const row of rows) {
    const text = written(row)
    const count = (counts.get(text) ?? 0) - 1
    if (count === 0) counts.delete(text)
    else counts.set(text, count)
  }
  return Array.from(counts, ([text, count]) => `${count > 0 ? `${count} missing` : `${-count} too many`}: ${text}`)
}
