/** Answers to commands that were rejected. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { CommandId, OrderId, owner } from "./Fields.ts"

export const reasons = [
  "UnknownOrder", // nobody has placed it
  "AlreadyPlaced", // somebody has, with another command
  "EmptyOrder", // no lines, or all that is ordered is free
  "AlreadyPaid", // it cannot be changed, cancelled or paid any more
  "Cancelled", // neither
  "WrongCurrency", // it is paid in another currency than it was placed in
  "WrongAmount", // the payment is not what the order costs
] as const

export const Rejected = Schema.Struct({
  orderId: OrderId,
  commandId: CommandId.annotate({ description: "The command that this answers" }),
  reason: Schema.Literals(reasons),
  message: Schema.String,
})
export type Rejected = typeof Rejected.Type

export const rejected = (naming: Pick<Naming, "prefix">): Topic.Topic<Rejected> =>
  Topic.make({
    name: named(naming, "orders.rejected"),
    description: "Answers to commands that were rejected; a command that comes again gets its first answer again",
    owner,
    schema: Rejected,
    key: ["order", ({ orderId }) => orderId],
    partitions: 6,
    retention: "7 days",
  })
