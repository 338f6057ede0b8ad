/** Failures that are dealt with where they occur, and tables of routes. */
import { type Failure, type Reference, refuse, type Stream, type Value } from "./Stream.ts"

/** What an attempt fails with; `cured` where it succeeds after so many failures. */
export interface Trouble {
  readonly reason: string
  readonly cured: number
}

export type Route = "dead letter" | "skip" | "stays"

export interface Table {
  readonly dlt: string
  /** How often each reason is tried again in place. */
  readonly retries: Readonly<Record<string, number>>
  /** What becomes of it then. */
  readonly routes: Readonly<Record<string, Route>>
}

/**
 * Which of a record's values is its undoing: the first one that no attempt cures. What is tried together stands together
 * behind it.
 */
export const handle = (trouble: (value: Value) => Trouble | undefined, table: Table): Reference => (stream) => {
  const failing = stream.values.flatMap((value) => {
    const found = trouble(value)
    return found !== undefined && found.cured > (table.retries[found.reason] ?? 0)
      ? [[value, found.reason] as const]
      : []
  })
  const place = new Map(stream.values.toReversed().map(({ unit }, i) => [unit, -i]))
  const values = stream.values.toSorted((a, b) => a.row - b.row || place.get(a.unit)! - place.get(b.unit)!)
  const { failed, ...left } = refuse(failing)({ ...stream, values, failed: [] })
  return route(table.routes, table.dlt)({ ...left, failed }, stream.failed)
}

/** Sends failures where the table says, by reason; the others stay. */
export const route =
  (routes: Readonly<Record<string, Route>>, dlt: string) => (stream: Stream, before: Stream["failed"] = []): Stream => {
    const to = (route: Route) => stream.failed.filter(({ reason }) => (routes[reason] ?? "stays") === route)
    return {
      ...stream,
      failed: [...before, ...to("stays")],
      dropped: [...stream.dropped, ...to("skip").map(({ row, reason }) => ({ row, reason }))],
      sent: [
        ...stream.sent,
        ...to("dead letter").map((failure) => letter(failure, stream.places[failure.row]!, dlt)),
      ].sort((a, b) => a.row - b.row),
    }
  }

const letter = ({ row, reason }: Failure, place: string, dlt: string) => ({
  topic: dlt,
  row,
  unit: {},
  key: null,
  value: `${place} ${reason}`,
  clock: NaN,
})
