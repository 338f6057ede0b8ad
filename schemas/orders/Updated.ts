/** What has changed in orders, and which were cancelled. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { Address, Amount, At, Lines, owner, recorded } from "./Fields.ts"

export const LinesChanged = Schema.Struct({
  type: Schema.Literal("LinesChanged"),
  lines: Lines,
  total: Amount,
  at: At,
})
export const AddressChanged = Schema.Struct({ type: Schema.Literal("AddressChanged"), address: Address, at: At })
export const OrderCancelled = Schema.Struct({ type: Schema.Literal("OrderCancelled"), at: At })

export const OrderUpdated = Schema.Union([
  Schema.Struct({ ...recorded, ...LinesChanged.fields }),
  Schema.Struct({ ...recorded, ...AddressChanged.fields }),
  Schema.Struct({ ...recorded, ...OrderCancelled.fields }),
])
export type OrderUpdated = typeof OrderUpdated.Type

export const updated = (naming: Pick<Naming, "prefix">): Topic.Topic<OrderUpdated> =>
  Topic.make({
    name: named(naming, "orders.updated"),
    description: "What has changed in orders that were not paid, and which were cancelled",
    owner,
    schema: OrderUpdated,
    key: ["order", ({ orderId }) => orderId],
    eventTime: ({ at }) => at,
    partitions: 6,
    retention: "365 days",
  })
