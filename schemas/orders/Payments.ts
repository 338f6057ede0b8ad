/** Orders that were paid. */
import { type Duration, Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { Id } from "../Fields.ts"
import { named, type Naming } from "../Naming.ts"
import { Amount, At, Currency, owner, recorded, UserId } from "./Fields.ts"

export const PaymentAuthorized = Schema.Struct({
  type: Schema.Literal("PaymentAuthorized"),
  paymentId: Id,
  userId: UserId,
  amount: Amount,
  currency: Currency,
  at: At,
})

export const Payment = Schema.Struct({ ...recorded, ...PaymentAuthorized.fields })
export type Payment = typeof Payment.Type

const contract = (
  name: string,
  description: string,
  key: readonly [string, (payment: Payment) => string],
  retention: Duration.Input,
): Topic.Topic<Payment> =>
  Topic.make({
    name,
    description,
    owner,
    schema: Payment,
    key,
    eventTime: ({ at }) => at,
    partitions: 6,
    retention,
  })

export const payments = (naming: Pick<Naming, "prefix">): Topic.Topic<Payment> =>
  contract(
    named(naming, "payments.authorized"),
    "The payment of every order that was paid",
    ["order", ({ orderId }) => orderId],
    "365 days",
  )

export const paymentsByUser = (naming: Pick<Naming, "prefix">): Topic.Topic<Payment> =>
  contract(
    named(naming, "payments.by-user"),
    "Payments on their way from an order's partition to a user's",
    ["user", ({ userId }) => userId],
    "7 days",
  )
