/** Visits: the latest state of each. */
import { Schema } from "effect"
import { Topic } from "../src/index.ts"
import { Id, Millis, personal } from "./Fields.ts"
import { named, type Naming, owner } from "./Naming.ts"

export const Session = Schema.Struct({
  id: Id,
  user: personal(Id, "Whose session it is, by its latest click"),
  start: Millis,
  last: Millis,
  clicks: Schema.Int,
  firstPage: Schema.NullOr(Schema.String),
  lastPage: Schema.NullOr(Schema.String),
})
export type Session = typeof Session.Type

export const sessions = (naming: Naming): Topic.Topic<Session> =>
  Topic.make({
    name: named(naming, "user.sessions"),
    description: "Sessions as they stand: clicks with no silence of 30 minutes between them, 24 hours at the longest",
    owner,
    schema: Session,
    key: ["session id", (session) => session.id],
    eventTime: (session) => session.last,
    partitions: 12,
    cleanup: "compact",
  })
