/** What users pay on average. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { Currency, owner, UserId } from "./Fields.ts"

export const AveragePayment = Schema.Struct({
  userId: UserId,
  averages: Schema.Array(Schema.Struct({
    currency: Currency,
    payments: Schema.Int.check(Schema.isGreaterThan(0)),
    total: Schema.Int.annotate({ description: "In minor units of the currency" }),
    average: Schema.Int.annotate({ description: "In minor units of the currency, rounded half up" }),
  })).annotate({ description: "By currency, in the order of their codes" }),
})
export type AveragePayment = typeof AveragePayment.Type

export const averages = (naming: Pick<Naming, "prefix">): Topic.Topic<AveragePayment> =>
  Topic.make({
    name: named(naming, "payments.average-by-user"),
    description: "The average payment per user, as it stands",
    owner,
    schema: AveragePayment,
    key: ["user", ({ userId }) => userId],
    partitions: 6,
    cleanup: "compact",
  })
