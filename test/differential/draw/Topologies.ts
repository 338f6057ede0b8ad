/** Pipelines of random steps, over one topic or several, in one task or several kinds of them. */
import { DeadLetter, Decode, Failures, Flow, Ingest, merge, repartition, Table, Topic } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import { type Decoding } from "../reference/Decoding.ts"
import * as Handling from "../reference/Handling.ts"
import { merge as merged } from "../reference/Merging.ts"
import * as Plain from "../reference/Plain.ts"
import type { Reference, Stream } from "../reference/Stream.ts"
import type { Row } from "../reference/Tables.ts"
import * as Branches from "./Branches.ts"
import * as Commands from "./Commands.ts"
import * as Joins from "./Joins.ts"
import * as Simple from "./Plain.ts"
import { type AnyFlow, common, Dlt, type Draw, loose, Reading, reading, type Step, through } from "./Steps.ts"
import * as Tables from "./Tables.ts"
import * as Windows from "./Windows.ts"

/** A topic that is read, and how. */
export interface Source extends Decoding {
  readonly of: Topic.Any
}

interface OneTask {
  readonly kind: "one task"
  readonly of: (inputs: ReadonlyArray<Stream>) => Stream
}

export interface Topology {
  readonly name: string
  readonly uses: ReadonlyArray<string>
  readonly flow: AnyFlow
  readonly sources: ReadonlyArray<Source>
  readonly ticks: boolean
  readonly isTable: boolean
  readonly begin: () => void
  readonly reference:
    | OneTask
    | { readonly kind: "repartition"; readonly tasks: number; readonly before: Reference; readonly after: Reference }
    | { readonly kind: "foreign key"; readonly of: (left: Stream, right: Stream) => ReadonlyMap<string, Row> }
}

export const Input = reading("input")
export const Others = reading("others")
const Bare = Topic.make({ ...common, name: "input", schema: Reading })
const Changes = Topic.make({ ...common, name: "input", schema: Reading, eventTime: ({ at }) => at, cleanup: "compact" })
const Rows = Topic.make({ ...common, name: "others", schema: Reading, eventTime: ({ at }) => at, cleanup: "compact" })
/** By the last digit: another key than before. */
export const Moved = Topic.make({
  ...common,
  name: "moved",
  schema: Reading,
  eventTime: ({ at }) => at,
  key: ["digit", ({ n }) => String(Math.abs(n) % 3)],
})

const stateless: ReadonlyArray<Draw> = [Simple.map, Simple.filter, Simple.flatMap, Simple.check, Simple.sample]
const plain: ReadonlyArray<Draw> = [...stateless, Simple.deliver]
const kept: ReadonlyArray<Draw> = [...plain, Simple.deduplicate, Commands.decider]
const folding: ReadonlyArray<Draw> = [Windows.stream, Windows.totalsByPeriod]
const nested: ReadonlyArray<Draw> = [
  Branches.when([...kept, ...folding]),
  Branches.match([...kept, Windows.stream]),
]
const one: ReadonlyArray<Draw> = [...kept, ...nested, Windows.stream, Windows.stream, Windows.totalsByPeriod]
/** Branches of a merge of topics cannot meet again but as branches. */
const any: ReadonlyArray<Draw> = [...one, Branches.split, Joins.withItself]

const referenceOf = Tables.referenceOf
const usesOf = (steps: ReadonlyArray<Step>) => steps.flatMap(({ uses }) => uses)
const namesOf = (steps: ReadonlyArray<Step>) => steps.map(({ name }) => name).filter((name) => name !== "").join(" | ")

/** What a stream ends with: itself, a table of what it comes to, or a table of routes. */
const ending = (dice: Dice, limits: Parameters<Draw>[2]): ReadonlyArray<Step> => {
  switch (dice.int(0, 5)) {
    case 0:
      return [Windows.totals(dice, "totals", limits), ...dice.int(0, 1) === 0 ? Tables.ofTotals(dice) : [Tables.latest]]
    case 1:
      return [Windows.updates(dice, "updates", limits), ...dice.int(0, 1) === 0 ? [Tables.latest] : []]
    case 2:
      return [routes(dice)]
    default:
      return []
  }
}

/** Whatever a stage before it fails with. */
const routes = (dice: Dice): Step => {
  const table = {
    DecodeError: dice.pick(["dead letter", "skip"] as const),
    Late: dice.pick(["dead letter", "skip", "stays"] as const),
  }
  const route = { "dead letter": DeadLetter.to(Dlt), skip: Failures.skip }
  const named = Object.entries(table).flatMap(([tag, how]) => how === "stays" ? [] : [[tag, route[how]]])
  const all = dice.int(0, 1) === 0
  return {
    name: `routes ${JSON.stringify(table)}${all ? ", the rest to the dead" : ""}`,
    uses: ["Failures.route"],
    stage: loose((flow: AnyFlow) => {
      const routed = Failures.route(Object.fromEntries(named))(flow) as AnyFlow
      return all ? Failures.routeAll(DeadLetter.to(Dlt))(routed) : routed
    }),
    reference: (stream) => {
      const left = Handling.route(table, Dlt.name)(stream)
      const rest = Object.fromEntries(left.failed.map(({ reason }) => [reason, "dead letter"] as const))
      return all ? Handling.route(rest, Dlt.name)(left) : left
    },
  }
}

const decoded = (topic: Topic.Topic<Reading>) => Ingest.topic(topic).pipe(Decode.schema) as AnyFlow

const topology = (
  steps: ReadonlyArray<Step>,
  of: Pick<Topology, "name" | "flow" | "sources" | "reference"> & {
    readonly uses: ReadonlyArray<string>
    readonly ticks?: boolean
  },
): Topology => ({
  ticks: false,
  ...of,
  uses: [...new Set([...of.uses, ...usesOf(steps)])],
  isTable: steps.some(({ isTable }) => isTable === true) || of.reference.kind === "foreign key",
  begin: () => steps.forEach(({ begin }) => begin?.()),
})

/** One topic in one task, with or without a wall clock. */
const single = (dice: Dice): Topology =>
  ofOneTopic(dice, dice.int(0, 2) === 0, dice.pick(["schema", "schema", "schema", "within", "kafka"]))

const ofOneTopic = (
  dice: Dice,
  ticks: boolean,
  how: "schema" | "within" | "kafka",
): Topology & { readonly reference: OneTask } => {
  const limits = { isUneven: ticks || how === "kafka" }
  const steps = [
    ...dice.int(0, 3) === 0 ? [Commands.handle(dice, "handled", limits)] : [],
    ...dice.list(1, 5, (i) => dice.pick(any)(dice, `stage-${i}`, limits)),
    ...dice.int(0, 9) === 0 ? [Commands.handle(dice, "handled-late", limits)] : [],
    ...ending(dice, limits),
  ]
  const ahead = 60_000
  const begun = how === "kafka"
    ? decoded(Bare).pipe(Flow.map((value, { timestamp }) => ({ ...value, at: timestamp })))
    : how === "within"
    ? Ingest.topic(Input).pipe(Decode.within({ ahead })) as AnyFlow
    : decoded(Input)
  const source: Source = {
    of: how === "kafka" ? Bare : Input,
    topic: "input",
    time: how === "kafka" ? "kafka" : "value",
    ...how === "within" && { ahead },
  }
  const reference = { kind: "one task", of: ([stream]: ReadonlyArray<Stream>) => referenceOf(steps)(stream!) } as const
  const made = topology(steps, {
    name: `${how}${ticks ? ", ticks" : ""} | ${namesOf(steps)}`,
    uses: [`Decode ${how}`, ...ticks ? ["wall-clock ticks"] : []],
    ticks,
    flow: through(begun, steps),
    sources: [source],
    reference,
  })
  return { ...made, reference }
}

const sources: ReadonlyArray<Source> = [
  { of: Input, topic: "input", time: "value" },
  { of: Others, topic: "others", time: "value" },
]
const limits = { isUneven: false }

const before = (dice: Dice, name: string) => dice.list(0, 2, (i) => dice.pick(plain)(dice, `${name}-${i}`, limits))

const merging = (dice: Dice): Topology => {
  const [left, right] = [before(dice, "left"), before(dice, "right")]
  const steps = [...dice.list(0, 4, (i) => dice.pick(one)(dice, `stage-${i}`, limits)), ...ending(dice, limits)]
  return topology([...left, ...right, ...steps], {
    name: `merge (${namesOf(left)}) (${namesOf(right)}) | ${namesOf(steps)}`,
    uses: ["merge of topics"],
    flow: through(merge(through(decoded(Others), right))(through(decoded(Input), left)) as AnyFlow, steps),
    sources,
    reference: {
      kind: "one task",
      of: ([a, b]) => referenceOf(steps)(merged(referenceOf(left)(a!), referenceOf(right)(b!))),
    },
  })
}

const joining = (dice: Dice): Topology => {
  const joined = Joins.draw(dice, "joined")
  const [left, right] = [before(dice, "left"), joined.withTable ? Tables.steps(dice, 2) : before(dice, "right")]
  const steps = [...dice.list(0, 2, (i) => dice.pick(one)(dice, `stage-${i}`, limits)), ...ending(dice, limits)]
  const that = joined.withTable ? Table.topic(Rows) as unknown as AnyFlow : decoded(Others)
  return topology([...left, ...right, ...steps], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)}) | ${namesOf(steps)}`,
    uses: joined.uses,
    flow: through(joined.stage(through(that, right))(through(decoded(Input), left)), steps),
    sources: joined.withTable ? [sources[0]!, { ...sources[1]!, of: Rows, isTable: true }] : sources,
    reference: {
      kind: "one task",
      of: ([a, b]) =>
        referenceOf(steps)(joined.reference(Joins.beside(joined, referenceOf(left)(a!), referenceOf(right)(b!)))),
    },
  })
}

const tableSources: ReadonlyArray<Source> = [
  { ...sources[0]!, of: Changes, isTable: true },
  { ...sources[1]!, of: Rows, isTable: true },
]

const tables = (dice: Dice): Topology => {
  const [left, right, steps] = [Tables.steps(dice, 2), Tables.steps(dice, 2), Tables.ending(dice)]
  const [a, b] = [Table.topic(Changes), Table.topic(Rows)] as unknown as [AnyFlow, AnyFlow]
  if (dice.int(0, 4) === 0) {
    return topology([...left, ...steps], {
      name: `table | ${namesOf([...left, ...steps])}`,
      uses: ["Table.topic"],
      flow: through(a, [...left, ...steps]),
      sources: [tableSources[0]!],
      reference: { kind: "one task", of: ([a]) => referenceOf([...left, ...steps])(a!) },
    })
  }
  const joined = Tables.join(dice, "joined")
  const marked = Plain.map(() => ({ isRight: true }))
  return topology([...left, ...right, ...steps], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)}) | ${namesOf(steps)}`,
    uses: ["Table.topic", ...joined.uses],
    flow: through(joined.stage(through(b, right))(through(a, left)), steps),
    sources: tableSources,
    reference: {
      kind: "one task",
      of: ([a, b]) =>
        referenceOf(steps)(joined.reference(merged(marked(referenceOf(right)(b!)), referenceOf(left)(a!)))),
    },
  })
}

const referring = (dice: Dice): Topology => {
  const [left, right] = [Tables.steps(dice, 2), Tables.steps(dice, 2)]
  const joined = Tables.foreignKey(dice, Changes, Rows)
  const [a, b] = [Table.topic(Changes), Table.topic(Rows)] as unknown as [AnyFlow, AnyFlow]
  const flow = joined.stage(through(b, right), DeadLetter.to(Dlt) as never)(through(a, left))
  return topology([...left, ...right], {
    name: `(${namesOf(left)}) ${joined.name} (${namesOf(right)})`,
    uses: joined.uses,
    flow: Tables.asReadings.stage(flow),
    sources: tableSources,
    reference: {
      kind: "foreign key",
      of: (a, b) => joined.reference(referenceOf(left)(a), referenceOf(right)(b)),
    },
  })
}

/** By another key in the middle: one to three tasks write, and one reads. */
const moving = (dice: Dice): Topology => {
  const first = dice.list(
    0,
    3,
    (i) => dice.pick([...plain, Simple.deduplicate, Commands.decider])(dice, `first-${i}`, limits),
  )
  const uneven = { isUneven: true }
  const steps = [...dice.list(0, 3, (i) => dice.pick(any)(dice, `stage-${i}`, uneven)), ...ending(dice, uneven)]
  const written = through(decoded(Input), first).pipe(Failures.routeAll(DeadLetter.to(Dlt)))
  return topology([...first, ...steps], {
    name: `${namesOf(first)} | repartition | ${namesOf(steps)}`,
    uses: ["repartition"],
    flow: through(repartition(Moved, { undeliverable: DeadLetter.to(Dlt) })(written) as AnyFlow, steps),
    sources: [sources[0]!],
    reference: {
      kind: "repartition",
      tasks: dice.int(1, 3),
      before: referenceOf(first),
      after: referenceOf(steps),
    },
  })
}

/** Half of all pipelines read one topic. */
const shapes = [
  single,
  single,
  single,
  single,
  single,
  single,
  merging,
  merging,
  joining,
  joining,
  joining,
  joining,
  tables,
  referring,
  moving,
]

export const draw = (dice: Dice): Topology => dice.pick(shapes)(dice)

/** For whole programs, which are slower: one topic, and no clock but that of events. */
export const drawProgram = (dice: Dice) => ofOneTopic(dice, false, "schema")
