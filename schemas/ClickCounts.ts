/** Clicks per user and minute of event time. */
import { Schema } from "effect"
import { Topic } from "../src/index.ts"
import { Id, Millis, personal } from "./Fields.ts"
import { named, type Naming, owner } from "./Naming.ts"

export const ClickCount = Schema.Struct({
  user: personal(Id, "Whose clicks they are"),
  minute: Millis.annotate({ description: "The beginning of the minute, in milliseconds since 1970" }),
  clicks: Schema.Int.check(Schema.isGreaterThan(0)),
  final: Schema.Boolean.annotate({ description: "Whether the minute is closed: later clicks go to user.clicks.late" }),
})
export type ClickCount = typeof ClickCount.Type

export const clickCounts = (naming: Naming): Topic.Topic<ClickCount> =>
  Topic.make({
    name: named(naming, "user.clicks.aggregates"),
    description: "Clicks per user and minute: every update, and a final mark when the minute closes",
    owner,
    schema: ClickCount,
    key: ["user and minute", ({ user, minute }) => `${user}@${new Date(minute).toISOString()}`],
    eventTime: ({ minute }) => minute,
    partitions: 3,
    cleanup: "compact,delete",
    retention: "30 days",
  })
