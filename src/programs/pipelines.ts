/** Every pipeline of the clickstream and of orders, by the names that tools know them by. */
import type { Scope } from "effect"
import type { Naming } from "../../schemas/index.ts"
import { count } from "../clickstream/Count.ts"
import { enrich } from "../clickstream/Enrich.ts"
import { store } from "../clickstream/Store.ts"
import { averages } from "../orders/Averages.ts"
import { orders } from "../orders/Orders.ts"
import type { Kafka, Pipeline, Postgres, Settings, Task } from "../index.ts"
import * as Processing from "./processing.ts"

export type Any = Pipeline.Pipeline<
  unknown,
  Kafka.Cluster | Postgres.Postgres | Task.Task | Task.Logged | Scope.Scope
>

type Values = Naming & Settings.Values<typeof Processing.enriching & typeof Processing.counting>

export const byName = (values: Values): Readonly<Record<string, Any>> => {
  const [clicks, counts, sessions, identities, deadLetters] = store(values)
  return {
    // What enrich leaves out while it is behind is not left out of a replay, which is behind all the time.
    enrich: enrich(values, { ...Processing.enrichOptions(values), devices: undefined }),
    aggregate: count(values, values),
    "store-clicks": clicks,
    "store-counts": counts,
    "store-sessions": sessions,
    "store-identities": identities,
    "store-dead-letters": deadLetters,
    orders: orders(values),
    averages: averages(values),
  }
}
