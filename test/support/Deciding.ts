/** A pipeline of a decider with all that it can publish and answer, random commands for it, and what must come of them. */
import { Effect, Schema } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decider,
  Decode,
  Deliver,
  Failures,
  Flow,
  Fold,
  Ingest,
  Pipeline,
  Reply,
  Task,
  Topic,
} from "../../src/index.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import type { Driver } from "../../src/testing/index.ts"
import { Happened, rules, toEvents } from "./DeciderCases.ts"
import { byHand } from "./DecidingByHand.ts"
import type { Dice } from "./Seeds.ts"
import { Reading } from "./StageCases.ts"

const partitions = 2
const common = { description: "Test", owner: "tests", partitions }
export const Commands = Topic.make({
  ...common,
  name: "commands",
  schema: Reading,
  key: ["account", ({ id }) => id.split("-")[0]!],
  eventTime: ({ at }) => at,
})
export const Events = Topic.make({
  ...common,
  name: "events",
  partitions: 3,
  schema: Schema.Struct({ account: Schema.String, version: Schema.Int, command: Schema.String, event: Happened }),
  key: ["account", ({ account }) => account],
})
const answers = (name: string) =>
  Topic.make({
    ...common,
    name,
    schema: Schema.Struct({ id: Schema.String, outcome: Schema.String, versions: Schema.Array(Schema.Int) }),
    key: ["account", ({ id }) => id.split("-")[0]!],
  })
const Replies = answers("replies")
const Rejections = answers("rejections")
const Added = Topic.make({
  ...common,
  name: "added",
  schema: Schema.Struct({ key: Schema.String, value: Schema.Int }),
  key: ["account", ({ key }) => key],
  cleanup: "compact",
})
const Dlt = Topic.bytes({ ...common, name: "dlt" })

export interface Options {
  readonly window: number
  readonly atMost: number
  /** At which batches the pipeline fails, in a way that passes. */
  readonly stumblesAt?: ReadonlyArray<number>
}

export const decider = (remember: Pick<Options, "window" | "atMost">) => Decider.make({ ...rules, remember })

const stumbling =
  (at: ReadonlyArray<number>) =>
  <A, F, E, R>(flow: Flow.Flow<A, F, E, R>): Flow.Flow<A, F, E | Task.PipelineError, R> => {
    let batches = 0
    const error = new Task.PipelineError({ reason: "Sink", retriable: true, message: "the sink is away" })
    return Flow.perTask<A, A, never, Task.PipelineError, never, never, never>(
      Effect.succeed((batch) => at.includes(++batches) ? Effect.fail(error) : Effect.succeed(batch)),
      { stage: "stumbling" },
    )(flow)
  }

export const pipeline = <R>(guarantee: Pipeline.Guarantee<unknown, R>, { stumblesAt = [], ...remember }: Options) =>
  Pipeline.make(
    "deciding",
    Ingest.topic(Commands).pipe(
      Decode.schema,
      Decider.stage(decider(remember), { publish: Decider.to(Events, (event) => eventOf(event)) }),
      Deliver.derived(Replies, ({ commandId, outcome, events }) => (
        { id: commandId, outcome, versions: events.map(({ version }) => version) }
      )),
      Decider.events,
      stumbling(stumblesAt),
      Aggregate.running({
        name: "added",
        fold: Fold.make({
          state: Schema.Int,
          initial: () => 0,
          add: (sum, { event }: Decider.Recorded<Happened>) => event.type === "Added" ? sum + event.n : sum,
        }),
      }),
      Deliver.latest(Added, (sum) => sum),
      Failures.route({
        Overdrawn: Reply.to(Rejections, ({ by }, { key, value }) => (
          { id: `${key}`, outcome: `${JSON.parse(String(value)).id} overdrawn`, versions: [by] }
        )),
      }),
      Failures.routeAll(DeadLetter.to(Dlt)),
    ),
    guarantee,
  )

const eventOf = (event: Decider.Recorded<Happened>) =>
  toEvents.record(event).value as Schema.Schema.Type<typeof Events.schema>

export const recorded = (
  { account, version, command, event }: typeof Events.schema.Type,
): Decider.Recorded<Happened> => (
  { key: account, version, commandId: command, event }
)

/** Commands of five accounts, a third of them repeats. */
export const commands = (dice: Dice, length: number): ReadonlyArray<Reading> => {
  const sent: Array<Reading> = []
  let at = 1_000_000
  for (let i = 0; i < length; i++) {
    const key = dice.pick(["ann", "ben", "cho", "dee", "eva"])
    at += dice.int(-1_000, 3_000)
    const again = dice.int(0, 2) === 0 ? sent[dice.int(0, sent.length - 1)] : undefined
    sent.push(again === undefined ? { id: `${key}-${i}`, n: dice.int(0, 9), at } : { ...again, at })
  }
  return sent
}

/** What was committed, by account. */
export interface Results {
  readonly events: Readonly<Record<string, ReadonlyArray<string>>>
  readonly replies: Readonly<Record<string, ReadonlyArray<string>>>
  readonly rejected: Readonly<Record<string, ReadonlyArray<string>>>
  readonly dead: number
  readonly added: Readonly<Record<string, number>>
}

const grouped = <A>(of: Iterable<A>, key: (one: A) => string, text: (one: A) => string) => {
  const groups: Record<string, Array<string>> = {}
  for (const one of of) (groups[key(one)] ??= []).push(text(one))
  return Object.fromEntries(Object.entries(groups).sort(([a], [b]) => a < b ? -1 : 1))
}

const account = ({ id }: { readonly id: string }) => id.split("-")[0]!

export const expected = (sent: ReadonlyArray<Reading>, { window, atMost }: Options): Results => {
  const tasks = Array.from({ length: partitions }, (_, partition) => {
    const own = sent.filter((one) => forKey(Buffer.from(account(one)), partitions) === partition)
    return byHand(own.map((one) => ({ key: account(one), value: JSON.stringify(one) })), window, atMost)
  })
  const decisions = tasks.flatMap(({ decisions }) => decisions)
  const accepted = decisions.filter(({ outcome }) => outcome === "accepted")
  const answered = decisions.filter(({ outcome }) => outcome === "accepted" || outcome === "repeated")
  const added: Record<string, number> = {}
  for (const { key, events } of accepted) {
    for (const event of events) {
      added[key!] ??= 0
      if (event.includes("Added")) added[key!]! += Number(event.split(" ")[2])
    }
  }
  return {
    events: grouped(
      accepted.flatMap(({ key, events }) => events.map((event) => [key!, event] as const)),
      ([key]) => key,
      ([, event]) => event,
    ),
    replies: grouped(
      answered,
      account,
      ({ id, outcome, events }) => `${id} ${outcome} ${events.map((event) => event.split(" ")[0]).join()}`,
    ),
    rejected: grouped(
      decisions.filter(({ outcome }) => outcome === "Overdrawn"),
      account,
      ({ id }) => `${id} overdrawn`,
    ),
    dead: decisions.filter(({ outcome }) => outcome.startsWith("Undecidable")).length,
    added: Object.fromEntries(Object.entries(added).sort(([a], [b]) => a < b ? -1 : 1)),
  }
}

const nameOf = (event: Happened) => event.type === "Emptied" ? "Emptied" : `${event.type} ${event.n}`

const present = <A>(values: ReadonlyArray<A | null>) => values.filter((value) => value !== null)

export const observed = Effect.fnUntraced(function* (driver: Driver.Driver) {
  const events = present(yield* driver.values(Events))
  const replies = present(yield* driver.values(Replies))
  const rejected = present(yield* driver.values(Rejections))
  const added = yield* driver.latest(Added)
  const results: Results = {
    events: grouped(events, ({ account }) => account, ({ version, event }) => `${version} ${nameOf(event)}`),
    replies: grouped(replies, account, ({ id, outcome, versions }) => `${id} ${outcome} ${versions.join()}`),
    rejected: grouped(rejected, account, ({ outcome }) => outcome),
    dead: (yield* driver.readBytes(Dlt)).length,
    added: Object.fromEntries(
      Array.from(added, ([key, { value }]) => [key, value] as const).sort(([a], [b]) => a < b ? -1 : 1),
    ),
  }
  return { results, events: events.map(recorded) }
})

/** The state and version of every account, as the store has them. */
export const stored = Effect.fnUntraced(function* (driver: Driver.Driver, of: Pipeline.Pipeline<unknown, unknown>) {
  const aggregates = yield* driver.store(of, rules.name)
  return new Map(
    Array.from(aggregates, ([key, aggregate]) => {
      const { state, version } = aggregate as Decider.Rebuilt<{ readonly sum: number }>
      return [key, { state, version }] as const
    }).filter(([, { version }]) => version > 0),
  )
})
