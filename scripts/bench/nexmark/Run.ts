/** Runs one query over generated events and compares what comes out with its batch computation. */
import { Effect, Result } from "effect"
import { text } from "../../../src/Topic.ts"
import { Events, Refused } from "./Events.ts"
import { type Emitted, generate, type Options } from "./Generator.ts"
import * as InMemory from "./InMemory.ts"
import { Log } from "./Log.ts"
import { difference, type Query, type Row } from "./Query.ts"

export interface Outcome {
  /** Of one core: by all the time that the process has used of its cores, garbage collection included. */
  readonly perSecond: number
  readonly rows: number
  readonly equal: boolean
  /** The first of the differences. */
  readonly differences: ReadonlyArray<string>
}

/** The events as their topic holds them. */
export const logOf = (input: Iterable<Emitted>): Log => {
  const log = new Log()
  for (const { event, arrival } of input) {
    log.append({ key: null, value: Result.getOrThrow(Events.encode(event)) }, arrival)
  }
  return log
}

/** The rows that a query has written. */
export const rowsOf = ({ results, keep }: Query, log = new Log()): ReadonlyArray<Row> => {
  const { keys, bytes } = log.fetch(results, 0, log.length)
  const rows = (of: Iterable<Uint8Array | null>) => Array.from(of, (value) => JSON.parse(text(value!)) as Row)
  if (keep === "all") return rows(bytes)
  return rows(new Map(bytes.map((value, i) => [text(keys[i]!), value])).values())
}

export const run = async (query: Query, options: Options): Promise<Outcome> => {
  const logs: InMemory.Logs = new Map([[Events.name, logOf(generate(options))]])
  globalThis.gc?.()
  const began = process.cpuUsage()
  await Effect.runPromise(InMemory.run(query.pipeline, logs))
  const { user, system } = process.cpuUsage(began)
  const refused = logs.get(Refused.name)?.length ?? 0
  const rows = rowsOf(query, logs.get(query.results.name))
  const differences = difference(rows, query.batch(Array.from(generate(options))))
  if (refused > 0) differences.unshift(`${refused} records were refused`)
  return {
    perSecond: options.events * 1e6 / (user + system),
    rows: rows.length,
    equal: differences.length === 0,
    differences: differences.slice(0, 3),
  }
}
