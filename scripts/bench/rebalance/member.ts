/** One member of the group, counting by key: `node member.ts '{"brokers":...}'`. SIGTERM ends it as it ends a program. */
import { Effect, Schema } from "effect"
import { Aggregate, Decode, Deliver, Failures, Flow, Fold, Guarantee, Ingest, Pipeline } from "../../../src/index.ts"
import { KafkaClient, Runner, Topic } from "../../../src/index.ts"
import { collectGarbageSooner } from "../../../src/programs/memory.ts"

export interface Order {
  readonly brokers: string
  readonly partitions: number
  readonly options: Partial<Runner.Options>
}

export const group = "rebalancing"

export const topics = (partitions: number) => {
  const common = { owner: "bench", description: "Benchmark", partitions }
  return {
    in: Topic.make({ ...common, name: "in", schema: Schema.Int }),
    out: Topic.make({
      ...common,
      name: "out",
      schema: Schema.Struct({ key: Schema.String, count: Schema.Int }),
      key: ["key", ({ key }) => key],
    }),
  }
}

export const counting = (partitions: number) => {
  const to = topics(partitions)
  return Pipeline.make(
    group,
    Ingest.topic(to.in).pipe(
      Decode.schema,
      Aggregate.running({ name: "counts", fold: Fold.count }),
      Flow.map(({ key, value }) => ({ key, count: value })),
      Deliver.to(to.out),
      Failures.routeAll(Failures.stop),
    ),
    Guarantee.exactlyOnce(),
  )
}

if (import.meta.main) {
  collectGarbageSooner()
  const { brokers, partitions, options } = JSON.parse(process.argv[2]!) as Order
  const running = Runner.run(counting(partitions), options)
  const fiber = Effect.runFork(Effect.provide(running, KafkaClient.layer({ brokers: [brokers] })))
  process.on("SIGTERM", () => fiber.interruptUnsafe())
  fiber.addObserver(() => process.exit(0))
}
