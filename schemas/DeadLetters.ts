/** What could not be processed: original bytes, with headers that say why and where from. */
import { Topic } from "../src/index.ts"
import { named, type Naming, owner } from "./Naming.ts"

export const deadLetters = (naming: Naming): Topic.Topic<Uint8Array | null> =>
  Topic.bytes({
    name: named(naming, "user.clicks.dlt"),
    description:
      "Personal data. Messages and records that were refused, as they came, with reason and origin in headers",
    owner,
    partitions: 3,
    retention: "14 days",
    // Whatever fits into raw fits in here with its headers.
    maxMessageBytes: Topic.defaultMaxMessageBytes + 64 * 1024,
  })
