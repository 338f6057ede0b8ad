/** Fields that several contracts of orders share. */
import { Schema } from "effect"
import { Id, Millis, personal } from "../Fields.ts"

export const owner = "shop"

export const Currency = Schema.String.check(Schema.isPattern(/^[A-Z]{3}$/u)).annotate({
  description: "By ISO 4217: EUR",
})

/** Money is counted in whole minor units, which add up without rounding. */
export const Amount = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000_000_000_000 })).annotate({
  description: "In minor units of the currency: cents",
})

export const Line = Schema.Struct({
  article: Id,
  quantity: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 })),
  price: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000_000 })).annotate({
    description: "Of one piece, in minor units of the order's currency",
  }),
})
export type Line = typeof Line.Type

export const Lines = Schema.Array(Line).check(Schema.isMaxLength(100))

const Text = Schema.String.check(Schema.isMaxLength(256))

export const Address = Schema.Struct({
  name: personal(Text, "Who receives it"),
  street: personal(Text, "Street and number"),
  postcode: personal(Text, "As the country writes it"),
  city: personal(Text, "Town or village"),
  country: Schema.String.check(Schema.isPattern(/^[A-Z]{2}$/u)).annotate({ description: "By ISO 3166: DE" }),
})

export const OrderId = Id.annotate({ description: "Chosen by whoever places the order" })
export const CommandId = Id.annotate({ description: "Chosen by the sender: the same when a command is sent again" })
export const At = Millis.annotate({ description: "When it was asked for, in milliseconds since 1970" })
export const UserId = personal(Id, "Whose order it is")

/** What every event tells of itself. */
export const recorded = {
  orderId: OrderId,
  version: Schema.Int.check(Schema.isGreaterThan(0)).annotate({
    description: "Counts the events of the order in all topics from 1, without a gap",
  }),
  commandId: CommandId.annotate({ description: "The command that it came of" }),
}
