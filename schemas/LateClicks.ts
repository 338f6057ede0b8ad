/** Clicks that came after what they belong to was closed. */
import { Topic } from "../src/index.ts"
import { named, type Naming, owner } from "./Naming.ts"

export const lateClicks = (naming: Naming): Topic.Topic<Uint8Array | null> =>
  Topic.bytes({
    name: named(naming, "user.clicks.late"),
    description:
      "Personal data. Clicks too old for a session or a minute, as they came, with reason and origin in headers",
    owner,
    partitions: 3,
    retention: "14 days",
    maxMessageBytes: Topic.defaultMaxMessageBytes + 64 * 1024,
  })
