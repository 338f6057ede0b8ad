/** Answers to commands that were accepted. */
import { Schema } from "effect"
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { owner, recorded } from "./Fields.ts"

export const Accepted = Schema.Struct({
  orderId: recorded.orderId,
  commandId: recorded.commandId.annotate({ description: "The command that this answers" }),
  versions: Schema.Array(recorded.version).annotate({
    description: "Of the events that came of it: none where it changed nothing",
  }),
  repeated: Schema.Boolean.annotate({ description: "Whether the command came before: its events were published then" }),
})
export type Accepted = typeof Accepted.Type

export const accepted = (naming: Pick<Naming, "prefix">): Topic.Topic<Accepted> =>
  Topic.make({
    name: named(naming, "orders.accepted"),
    description: "Answers to commands that were accepted; a command that comes again gets its first answer again",
    owner,
    schema: Accepted,
    key: ["order", ({ orderId }) => orderId],
    partitions: 6,
    retention: "7 days",
  })
