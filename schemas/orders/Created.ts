/** Orders that were placed. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { Address, Amount, At, Currency, Lines, owner, recorded, UserId } from "./Fields.ts"

export const OrderPlaced = Schema.Struct({
  type: Schema.Literal("OrderPlaced"),
  userId: UserId,
  currency: Currency,
  lines: Lines,
  total: Amount,
  address: Address,
  at: At,
})

export const OrderCreated = Schema.Struct({ ...recorded, ...OrderPlaced.fields })
export type OrderCreated = typeof OrderCreated.Type

export const created = (naming: Pick<Naming, "prefix">): Topic.Topic<OrderCreated> =>
  Topic.make({
    name: named(naming, "orders.created"),
    description: "Every order once, as it was placed",
    owner,
    schema: OrderCreated,
    key: ["order", ({ orderId }) => orderId],
    eventTime: ({ at }) => at,
    partitions: 6,
    retention: "365 days",
  })
