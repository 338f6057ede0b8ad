/** What may become of an order: the rules, without any of Kafka. */
import { Result, Schema } from "effect"
import type { OrderCommand } from "../../schemas/orders/Commands.ts"
import { OrderPlaced } from "../../schemas/orders/Created.ts"
import { Amount, Currency, Line, UserId } from "../../schemas/orders/Fields.ts"
import { PaymentAuthorized } from "../../schemas/orders/Payments.ts"
import { reasons, type Rejected } from "../../schemas/orders/Rejected.ts"
import { AddressChanged, LinesChanged, OrderCancelled } from "../../schemas/orders/Updated.ts"
import { Decider } from "../index.ts"

/** What is needed to decide; null for an order that nobody has placed. */
export const Order = Schema.NullOr(Schema.Struct({
  status: Schema.Literals(["open", "paid", "cancelled"]),
  userId: UserId,
  currency: Currency,
  total: Amount,
}))
export type Order = typeof Order.Type

export const OrderEvent = Schema.Union([OrderPlaced, LinesChanged, AddressChanged, OrderCancelled, PaymentAuthorized])
export type OrderEvent = typeof OrderEvent.Type

/** The rules do not allow what was asked for. */
export class OrderRejected extends Schema.TaggedError<OrderRejected>()("OrderRejected", {
  reason: Schema.Literals(reasons),
  orderId: Schema.String,
  commandId: Schema.String,
  message: Schema.String,
}) {}

const messages: Readonly<Record<Rejected["reason"], string>> = {
  UnknownOrder: "nobody has placed this order",
  AlreadyPlaced: "this order was placed before, with another command",
  EmptyOrder: "there is nothing to pay for",
  AlreadyPaid: "this order is paid, and stays as it is",
  Cancelled: "this order is cancelled, and stays so",
  WrongCurrency: "this order is in another currency",
  WrongAmount: "this is not what the order costs",
}

type Decision = Result.Result<ReadonlyArray<OrderEvent>, OrderRejected>

const reject = ({ orderId, commandId }: OrderCommand, reason: Rejected["reason"]): Decision =>
  Result.fail(new OrderRejected({ reason, orderId, commandId, message: messages[reason] }))

const totalOf = (lines: ReadonlyArray<Line>): number =>
  lines.reduce((total, { quantity, price }) => total + quantity * price, 0)

const decide = (order: Order, command: OrderCommand): Decision => {
  const { at } = command
  if (command.type === "PlaceOrder") {
    if (order !== null) return reject(command, "AlreadyPlaced")
    const { userId, currency, lines, address } = command
    const total = totalOf(lines)
    if (total === 0) return reject(command, "EmptyOrder")
    return Result.succeed([{ type: "OrderPlaced", userId, currency, lines, total, address, at }])
  }
  if (order === null) return reject(command, "UnknownOrder")
  if (order.status === "paid") return reject(command, "AlreadyPaid")
  if (command.type === "CancelOrder") {
    return Result.succeed(order.status === "cancelled" ? [] : [{ type: "OrderCancelled", at }])
  }
  if (order.status === "cancelled") return reject(command, "Cancelled")
  switch (command.type) {
    case "ChangeLines": {
      const total = totalOf(command.lines)
      if (total === 0) return reject(command, "EmptyOrder")
      return Result.succeed([{ type: "LinesChanged", lines: command.lines, total, at }])
    }
    case "ChangeAddress":
      return Result.succeed([{ type: "AddressChanged", address: command.address, at }])
    case "AuthorizePayment": {
      const { paymentId, amount, currency } = command
      if (currency !== order.currency) return reject(command, "WrongCurrency")
      if (amount !== order.total) return reject(command, "WrongAmount")
      return Result.succeed([{ type: "PaymentAuthorized", paymentId, userId: order.userId, amount, currency, at }])
    }
  }
}

const evolve = (order: Order, event: OrderEvent): Order => {
  if (event.type === "OrderPlaced") {
    return { status: "open", userId: event.userId, currency: event.currency, total: event.total }
  }
  if (order === null) throw new Error(`${event.type} of an order that was not placed`)
  switch (event.type) {
    case "LinesChanged":
      return { ...order, total: event.total }
    case "AddressChanged":
      return order
    case "OrderCancelled":
      return { ...order, status: "cancelled" }
    case "PaymentAuthorized":
      return { ...order, status: "paid" }
  }
}

/** Commands to events, by order. */
export const order = Decider.make({
  name: "orders",
  state: Order,
  event: OrderEvent,
  rejection: OrderRejected,
  initial: null,
  aggregate: ({ orderId }: OrderCommand) => orderId,
  commandId: ({ commandId }: OrderCommand) => commandId,
  decide,
  evolve,
})
