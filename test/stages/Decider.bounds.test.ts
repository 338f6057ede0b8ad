/** What a decider remembers fits into its changelog, whatever commands come. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { DeadLetter, Decider, Decode, Deliver, Failures, Guarantee, Ingest, Pipeline, Topic } from "../../src/index.ts"
import { Driver } from "../../src/testing/index.ts"

const about = { owner: "tests", partitions: 1, description: "Test" }
const Note = Schema.Struct({ page: Schema.String, id: Schema.Int, text: Schema.String })
const Notes = Topic.make({ ...about, name: "notes", schema: Note, key: ["page", ({ page }) => page] })
const Answers = Topic.make({
  ...about,
  name: "answers",
  schema: Schema.Struct({ id: Schema.Int, outcome: Schema.String }),
})
const Dlt = Topic.bytes({ ...about, name: "dlt" })

class Empty extends Schema.TaggedError<Empty>()("Empty", { message: Schema.String }) {}

const decider = Decider.make({
  name: "pages",
  state: Schema.Int,
  event: Schema.Struct({ text: Schema.String.check(Schema.isMaxLength(700_000)) }),
  rejection: Empty,
  initial: 0,
  aggregate: ({ page }: typeof Note.Type) => page,
  commandId: ({ id }: typeof Note.Type) => String(id),
  decide: (_, { text }) =>
    text === ""
      ? Result.fail(new Empty({ message: "nothing to note" }))
      : Result.succeed([{ text: text === "too long" ? "x".repeat(700_001) : text }]),
  evolve: (length, { text }) => length + text.length,
})

const pipeline = Pipeline.make(
  "pages",
  Ingest.topic(Notes).pipe(
    Decode.schema,
    Decider.stage(decider),
    Deliver.derived(Answers, ({ command: { id }, outcome }) => ({ id, outcome })),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const note = (id: number, size: number) => ({ page: "front", id, text: "x".repeat(size) })

describe("the results that a decider remembers", () => {
  it.effect("are the latest that fit, also after a restart", () =>
    Driver.run({ pipelines: pipeline }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Notes, Array.from({ length: 12 }, (_, id) => note(id, 100_000)))
        yield* driver.settle
        yield* driver.crash
        yield* driver.restart
        yield* driver.take(Answers)
        yield* driver.feed(Notes, [
          note(11, 100_000),
          note(7, 100_000),
          note(12, 100_000),
          note(9, 1),
          note(7, 100_000),
        ])
        yield* driver.settle
        const outcomes = (yield* driver.take(Answers)).map(({ value }) => `${value!.id} ${value!.outcome}`)
        assert.deepStrictEqual(outcomes, [
          "11 repeated",
          "7 repeated",
          "12 accepted",
          "9 repeated",
          "7 accepted",
        ])
        const [entry] = yield* driver.entries(pipeline, "pages")
        const { results } = entry!.value as { results: ReadonlyArray<{ readonly id: string }> }
        assert.deepStrictEqual(results.map(({ id }) => id), ["9", "10", "11", "12", "7"])
      })))

  it.effect("never make a command happen that could not be remembered", () =>
    Driver.run({ pipelines: pipeline }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Notes, [note(1, 10), note(2, 600_000), note(2, 600_000), note(3, 10)])
        yield* driver.settle
        assert.deepStrictEqual((yield* driver.values(Answers)).map((answer) => answer!.id), [1, 3])
        const letters = yield* driver.letters(Dlt)
        assert.deepStrictEqual(letters.map(({ reason }) => reason), ["Undecidable", "Undecidable"])
        assert.include(letters[0]!.message, "nothing has happened")
        const [entry] = yield* driver.entries(pipeline, "pages")
        assert.strictEqual((entry!.value as { state: number }).state, 20)
      })))

  it.effect("are what the schema of events says: a command that brings another stops the task, and is named", () =>
    Driver.run({ pipelines: pipeline }, (driver) =>
      Effect.gen(function* () {
        yield* driver.feed(Notes, [note(1, 10), { page: "front", id: 2, text: "too long" }])
        const { message } = yield* Effect.flip(driver.settle)
        assert.include(message, "at topic notes partition 0 offset 1")
      })))
})
