/** payments.authorized -> by user -> payments.average-by-user */
import { Schema } from "effect"
import type { Naming } from "../../schemas/index.ts"
import type { AveragePayment } from "../../schemas/orders/Averages.ts"
import { orderTopics } from "../../schemas/orders/index.ts"
import type { Payment } from "../../schemas/orders/Payments.ts"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
} from "../index.ts"
import { pipelines } from "./Names.ts"

const Sums = Schema.Record(Schema.String, Schema.Struct({ payments: Schema.Int, total: Schema.Int }))

/** What a user has paid, by currency: count and sum, which whole minor units keep exact. */
const paid = Fold.make({
  state: Sums,
  initial: (): typeof Sums.Type => ({}),
  add: (sums, { amount, currency }: Payment) => {
    const { payments, total } = sums[currency] ?? { payments: 0, total: 0 }
    return { ...sums, [currency]: { payments: payments + 1, total: total + amount } }
  },
  result: (sums): AveragePayment["averages"] =>
    Object.entries(sums).sort(([a], [b]) => a < b ? -1 : 1).map(([currency, { payments, total }]) => (
      { currency, payments, total, average: average(total, payments) }
    )),
})

/** Rounded half up, exactly: a quotient of floating point can end up on the other side of a half. */
export const average = (total: number, payments: number): number => {
  const rest = total % payments
  return (total - rest) / payments + (2 * rest >= payments ? 1 : 0)
}

/** Payments are keyed by order and averaged by user: they change partitions on the way. */
export const averages = (naming: Pick<Naming, "prefix">) => {
  const { payments, paymentsByUser, averages, dlt } = orderTopics(naming)
  return Pipeline.make(
    pipelines(naming).averages,
    Ingest.topic(payments).pipe(
      Decode.schema,
      Failures.route({ DecodeError: DeadLetter.to(dlt) }),
      repartition(paymentsByUser, { undeliverable: DeadLetter.to(dlt) }),
      Aggregate.running({ name: "paid", fold: paid }),
      Deliver.latest(averages, ({ key: userId, value }) => ({ userId, averages: value })),
      Failures.routeAll(DeadLetter.to(dlt)),
    ),
    Guarantee.exactlyOnce(),
  )
}
