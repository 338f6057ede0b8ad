/** Who is who: what identify, group and alias messages said last. */
import { Schema } from "effect"
import { Topic } from "../src/index.ts"
import { Id, Millis, Open, personal } from "./Fields.ts"
import { named, type Naming, owner } from "./Naming.ts"

export const Identity = Schema.Struct({
  id: personal(Id, "What the message is about: identify/user, group/user/group or alias/previous/user"),
  eventId: Id,
  kind: Schema.Literals(["identify", "group", "alias"]),
  userId: Schema.NullOr(personal(Id, "Who it is")),
  anonymousId: Schema.NullOr(personal(Id, "The visitor, as the tracker tells them apart")),
  previousId: Schema.NullOr(personal(Id, "Of an alias: who it was taken for before")),
  groupId: Schema.NullOr(Id),
  traits: personal(Open, "Of an identify or group: what is said of the user or group"),
  at: Millis,
})
export type Identity = typeof Identity.Type

export const identities = (naming: Naming): Topic.Topic<Identity> =>
  Topic.make({
    name: named(naming, "user.identities"),
    description: "The last that was said of every user, membership and alias",
    owner,
    schema: Identity,
    key: ["what the message is about", (identity) => identity.id],
    eventTime: (identity) => identity.at,
    partitions: 3,
    cleanup: "compact",
  })
