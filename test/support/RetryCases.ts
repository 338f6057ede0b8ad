/** Orders that are charged, by a service that fails in every way. */
import { Schema } from "effect"
import { Decode, Ingest, Retry, Topic } from "../../src/index.ts"

export const common = { description: "Test", owner: "tests", partitions: 1 }

export const Order = Schema.Struct({ id: Schema.String, n: Schema.Int, at: Schema.Int })
export type Order = typeof Order.Type
export const orders = (name: string) =>
  Topic.make({ ...common, name, schema: Order, eventTime: (order: Order) => order.at })
export const Orders = orders("orders")
export const Attempted = Topic.make({ ...common, name: "attempted", schema: Order })
export const Charged = Topic.make({ ...common, name: "charged", schema: Order })
export const Dlt = Topic.bytes({ ...common, name: "dlt" })

export class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", { message: Schema.String }) {}
export class Throttled extends Schema.TaggedError<Throttled>()("Throttled", { message: Schema.String }) {}
export class TimedOut extends Schema.TaggedError<TimedOut>()("TimedOut", { message: Schema.String }) {}
export class Malformed extends Schema.TaggedError<Malformed>()("Malformed", { message: Schema.String }) {}
export type Reason = Unavailable | Throttled | TimedOut | Malformed

export const retryTopics = <const O extends Retry.Order>(order: O, options?: { readonly parkedBytes?: number }) =>
  Retry.topics({ name: "charge", of: Orders, value: Order, delays: ["1 minute", "10 minutes"], order, ...options })

export const read = (topic: typeof Orders) => Ingest.topic(topic).pipe(Decode.schema)
export const decoded = read(Orders)
