/** What is asked for. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { Id } from "../Fields.ts"
import { named, type Naming } from "../Naming.ts"
import { Address, Amount, At, CommandId, Currency, Lines, OrderId, owner, UserId } from "./Fields.ts"

const common = { commandId: CommandId, orderId: OrderId, at: At }

export const PlaceOrder = Schema.Struct({
  type: Schema.Literal("PlaceOrder"),
  ...common,
  userId: UserId,
  currency: Currency,
  lines: Lines,
  address: Address,
})
export const ChangeLines = Schema.Struct({ type: Schema.Literal("ChangeLines"), ...common, lines: Lines })
export const ChangeAddress = Schema.Struct({ type: Schema.Literal("ChangeAddress"), ...common, address: Address })
export const AuthorizePayment = Schema.Struct({
  type: Schema.Literal("AuthorizePayment"),
  ...common,
  paymentId: Id,
  amount: Amount,
  currency: Currency,
})
export const CancelOrder = Schema.Struct({ type: Schema.Literal("CancelOrder"), ...common })

export const OrderCommand = Schema.Union([PlaceOrder, ChangeLines, ChangeAddress, AuthorizePayment, CancelOrder])
export type OrderCommand = typeof OrderCommand.Type

export const commands = (naming: Pick<Naming, "prefix">): Topic.Topic<OrderCommand> =>
  Topic.make({
    name: named(naming, "orders.commands"),
    description: "What is asked of orders, repeats included",
    owner,
    schema: OrderCommand,
    key: ["order", ({ orderId }) => orderId],
    eventTime: ({ at }) => at,
    partitions: 6,
    retention: "7 days",
  })
