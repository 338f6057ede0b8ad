/** A pipeline in two parts: payments by shop, moved to their customers, and totals per customer; with versions that differ. */
import { Schema } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
  Topic,
} from "../../../src/index.ts"

const about = { owner: "tests", description: "Payments", partitions: 2 }
const Payment = Schema.Struct({ shop: Schema.String, customer: Schema.String, cents: Schema.Int })
export type Payment = typeof Payment.Type
export const Payments = Topic.make({
  ...about,
  name: "payments",
  schema: Payment,
  key: ["shop", (payment: Payment) => payment.shop],
})
const ByCustomer = Topic.make({
  ...about,
  name: "payments.by-customer",
  schema: Payment,
  key: ["customer", (payment: Payment) => payment.customer],
})
export const Totals = Topic.make({
  ...about,
  name: "totals",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  key: ["customer", ({ key }: { key: string }) => key],
  cleanup: "compact",
})
export const Copies = Topic.make({
  ...about,
  name: "payments.seen",
  schema: Payment,
  key: ["customer", (payment: Payment) => payment.customer],
})
export const Refused = Topic.bytes({ ...about, name: "payments.refused" })
export const topics = [Payments, ByCustomer, Totals, Copies, Refused]

/** `counted` is what a version takes a payment for. */
export const totals = (counted: (payment: Payment) => number) =>
  Pipeline.make(
    "totals",
    Ingest.topic(Payments).pipe(
      Decode.schema,
      Failures.routeAll(DeadLetter.to(Refused)),
      repartition(ByCustomer, { undeliverable: DeadLetter.to(Refused) }),
      Deliver.to(Copies),
      Aggregate.running({ name: "sums", fold: Fold.sum(counted) }),
      Flow.map(({ key, value }) => ({ key, value })),
      Deliver.latest(Totals, (total) => total),
      Failures.routeAll(DeadLetter.to(Refused)),
    ),
    Guarantee.exactlyOnce(),
  )

const names = ["ann", "ben", "cho", "dee"]

/** Payments `from` to `to`; their numbers make them. */
export const payments = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, k) => {
    const i = from + k
    const payment = { shop: `shop-${i % 3}`, customer: names[i * 7 % 4]!, cents: 100 + i * 13 % 50 }
    return { topic: Payments.name, partition: i % 2, key: payment.shop, value: JSON.stringify(payment) }
  })

/** What customers have paid. */
export const sums = (upTo: number): Readonly<Record<string, number>> => {
  const sums: Record<string, number> = {}
  for (const { value } of payments(0, upTo)) {
    const { customer, cents } = JSON.parse(value) as Payment
    sums[customer] = (sums[customer] ?? 0) + cents
  }
  return sums
}
