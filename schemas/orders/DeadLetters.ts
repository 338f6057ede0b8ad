/** Commands and events that could not be processed: original bytes, with headers that say why and where from. */
import { Topic } from "../../src/index.ts"
import { named, type Naming } from "../Naming.ts"
import { owner } from "./Fields.ts"

export const deadLetters = (naming: Pick<Naming, "prefix">): Topic.Topic<Uint8Array | null> =>
  Topic.bytes({
    name: named(naming, "orders.dlt"),
    description: "Personal data. Commands that are none, and events that do not fit, with reason and origin in headers",
    owner,
    partitions: 3,
    retention: "14 days",
    maxMessageBytes: Topic.defaultMaxMessageBytes + 64 * 1024,
  })
