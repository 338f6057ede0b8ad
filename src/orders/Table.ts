/** The average payments as text, at the end and as they come. */
import { Effect, Ref, type Scope, Stream } from "effect"
import type { AveragePayment } from "../../schemas/orders/Averages.ts"
import type { OrderTopics } from "../../schemas/orders/index.ts"
import { Contents, type Kafka, type Task } from "../index.ts"

/** A line per user and currency, users in the order of their names. */
export const table = (averages: Iterable<AveragePayment>): string => {
  const rows = Array.from(averages).sort((a, b) => a.userId < b.userId ? -1 : 1).flatMap(({ userId, averages }) =>
    averages.map(({ currency, payments, total, average }) => [
      userId,
      currency,
      String(payments),
      money(total, currency),
      money(average, currency),
    ])
  )
  const all = [["user", "currency", "payments", "total", "average"], ...rows]
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  return all.map((row) =>
    row.map((text, column) => column < 2 ? text.padEnd(widths[column]!) : text.padStart(widths[column]!)).join("  ")
  ).join("\n")
}

/** An amount in the currency's major unit. */
const money = (minor: number, currency: string): string => {
  const { maximumFractionDigits: digits = 2 } = new Intl.NumberFormat("en", { style: "currency", currency })
    .resolvedOptions()
  return (minor / 10 ** digits).toFixed(digits)
}

/** The averages as they stand. */
export const averages = (to: OrderTopics): Effect.Effect<string, Task.PipelineError, Kafka.Cluster> =>
  Effect.map(Contents.latest(to.averages), (averages) => table(averages.values()))

/** What has become of all commands that the topics still hold, and the averages. */
export const summary = Effect.fn("Table.summary")(function* (
  to: OrderTopics,
  seed: number,
): Effect.fn.Return<string, Task.PipelineError, Kafka.Cluster> {
  const accepted = yield* Stream.runCollect(Contents.read(to.accepted))
  const rejected = yield* Stream.runCollect(Contents.read(to.rejected))
  const letters = yield* Stream.runCollect(Contents.read(to.dlt))
  const repeated = accepted.filter(({ value }) => value?.repeated).length
  const reasons = Map.groupBy(rejected, ({ value }) => value!.reason)
  const why = Array.from(reasons, ([reason, { length }]) => `${reason} ${length}`).sort().join(", ")
  const all = accepted.length + rejected.length + letters.length
  return `${all} commands of seed ${seed}: ${accepted.length - repeated} accepted, ${repeated} of those again, ` +
    `${rejected.length} rejected${why && ` (${why})`}, ${letters.length} damaged\n\n${yield* averages(to)}`
})

/** A terminal. */
export interface Screen {
  readonly rows: number
  write(text: string): unknown
}

/** Draws the averages as they stand, as many as the screen holds, over and over until the scope ends. */
export const live = Effect.fn("Table.live")(function* (
  { averages }: OrderTopics,
  screen: Screen,
): Effect.fn.Return<void, Task.PipelineError, Kafka.Cluster | Scope.Scope> {
  const users = yield* Ref.make<ReadonlyMap<string, AveragePayment>>(new Map())
  let drawn = 0
  const redraw = Effect.map(Ref.get(users), (users) => {
    const lines = table(users.values()).split("\n").slice(0, Math.max(2, (screen.rows || 24) - 1))
    screen.write(`${drawn === 0 ? "" : `\x1b[${drawn}A\x1b[J`}${lines.join("\n")}\n`)
    drawn = lines.length
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(redraw, Effect.sleep("1 second"))))
  yield* Stream.runForEach(
    Contents.follow(averages),
    ({ value }) => value === null ? Effect.void : Ref.update(users, (users) => new Map(users).set(value.userId, value)),
  )
})
