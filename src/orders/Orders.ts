/** orders.commands -> orders.created, orders.updated, payments.authorized; answers -> orders.accepted, orders.rejected */
import type { Naming } from "../../schemas/index.ts"
import { orderTopics } from "../../schemas/orders/index.ts"
import { DeadLetter, Decider, Decode, Deliver, Failures, Guarantee, Ingest, Pipeline, Reply } from "../index.ts"
import { pipelines } from "./Names.ts"
import { order, type OrderEvent } from "./Order.ts"

/** Every command is decided once; one that comes again gets its first answer again. */
export const orders = (naming: Pick<Naming, "prefix">) => {
  const { commands, created, updated, payments, accepted, rejected, dlt } = orderTopics(naming)
  const publish: Decider.Publishing<OrderEvent> = {
    topics: [created, updated, payments],
    record: ({ key: orderId, version, commandId, event }) => {
      const recorded = { orderId, version, commandId }
      switch (event.type) {
        case "OrderPlaced":
          return Decider.into(created, { ...recorded, ...event })
        case "PaymentAuthorized":
          return Decider.into(payments, { ...recorded, ...event })
        default:
          return Decider.into(updated, { ...recorded, ...event })
      }
    },
  }
  return Pipeline.make(
    pipelines(naming).orders,
    Ingest.topic(commands).pipe(
      Decode.schema,
      Decider.stage(order, { publish }),
      Deliver.derived(accepted, ({ key: orderId, commandId, events, outcome }) => (
        { orderId, commandId, versions: events.map(({ version }) => version), repeated: outcome === "repeated" }
      )),
      Failures.route({
        OrderRejected: Reply.to(rejected, ({ orderId, commandId, reason, message }) => (
          { orderId, commandId, reason, message }
        )),
        DecodeError: DeadLetter.to(dlt),
        Keyless: DeadLetter.to(dlt),
        Undecidable: DeadLetter.to(dlt),
        Undeliverable: DeadLetter.to(dlt),
      }),
    ),
    Guarantee.exactlyOnce(),
  )
}
