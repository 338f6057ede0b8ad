import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { DeadLetter, Decode, Failures, Ingest, repartition, Topic } from "../../src/index.ts"
import type { AnyFlow, Flow } from "../../src/Flow.ts"
import { writtenBy } from "../../src/WriterHeaders.ts"
import { run, sources } from "../support/FlowRunner.ts"
import { forSeeds } from "../support/Seeds.ts"

const events = (name: string) =>
  Topic.make({
    name,
    description: "Test input",
    owner: "tests",
    schema: Schema.Int,
    key: ["parity", (at: number) => String(at % 2)],
    eventTime: (at: number) => at,
    partitions: 1,
  })
const Events = events("events")
const ByParity = events("by-parity")
const Refused = Topic.bytes({ name: "refused", description: "Test output", owner: "tests", partitions: 1 })

const decoded: AnyFlow = Ingest.topic(Events).pipe(
  Decode.schema,
  Failures.route({ DecodeError: DeadLetter.to(Refused) }),
  repartition(ByParity, { undeliverable: DeadLetter.to(Refused) }),
)
const written = decoded.node.inputs[0]!.node.feeds[0] as Flow<number>

describe("repartition", () => {
  it.effect("writes each record with the stream time that its task had at it, however the input is cut", () =>
    forSeeds(50, (dice) =>
      Effect.gen(function* () {
        const all = dice.list(1, 30, () => dice.int(0, 1000))
        const records = all.map((at) => ({ key: "a", value: String(at), timestamp: 0 }))
        const cuts = dice.list(0, 10, () => dice.int(1, 30))
        const { batches } = yield* run(written, new Map([[Events as Topic.Any, sources(Events, records, cuts)]]))
        assert.deepStrictEqual(
          batches.flatMap(({ outgoing }) => outgoing.map(({ headers }) => writtenBy(headers!, -1))),
          all.map((_, i) => ["0", Math.max(...all.slice(0, i + 1))] as const),
        )
      })))
})
