/** What the cases in this folder are about: a topic with two kinds of bad record. */
import { Result, Schema } from "effect"
import { Check, Decode, Ingest, Topic } from "../../src/index.ts"

export const Click = Schema.Struct({ userId: Schema.String, url: Schema.String, at: Schema.Int })
export const Clicks = Topic.make({ name: "clicks", description: "", owner: "", schema: Click, partitions: 12 })
export const Paths = Topic.make({
  name: "paths",
  description: "",
  owner: "",
  schema: Schema.Struct({ userId: Schema.String, path: Schema.String }),
  partitions: 12,
})
export const Dlt = Topic.bytes({ name: "clicks.dlt", description: "", owner: "", partitions: 12 })

export class InvalidClick extends Schema.TaggedError<InvalidClick>()("InvalidClick", { message: Schema.String }) {}

export class Slow extends Schema.TaggedError<Slow>()("Slow", { message: Schema.String }) {}

export const checked = Ingest.topic(Clicks).pipe(
  Decode.schema,
  Check.with((click) =>
    click.url.startsWith("http") ? Result.succeed(click) : Result.fail(new InvalidClick({ message: "no address" }))
  ),
)
