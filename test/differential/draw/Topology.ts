/** A pipeline that was drawn: what it reads, what it is, and what it must come to. */
import { Decode, Ingest, Topic } from "../../../src/index.ts"
import type { Decoding } from "../reference/Decoding.ts"
import type { Reference, Stream } from "../reference/Stream.ts"
import type { Row } from "../reference/Tables.ts"
import { type AnyFlow, common, Reading, reading, type Step } from "./Steps.ts"

/** A topic that is read, and how. */
export interface Source extends Decoding {
  readonly of: Topic.Any
}

export interface OneTask {
  readonly kind: "one task"
  readonly of: (inputs: ReadonlyArray<Stream>) => Stream
}

/** Tasks that write for one that reads, under another key. */
export interface Repartition {
  readonly kind: "repartition"
  readonly tasks: number
  readonly before: Reference
  readonly after: Reference
}

/** Three kinds of tasks: compared is the table that they come to. */
export interface ForeignKey {
  readonly kind: "foreign key"
  readonly of: (left: Stream, right: Stream) => ReadonlyMap<string, Row>
}

export type Shape = OneTask | Repartition | ForeignKey

export interface Topology<out S extends Shape = Shape> {
  readonly name: string
  readonly uses: ReadonlyArray<string>
  readonly flow: AnyFlow
  readonly sources: ReadonlyArray<Source>
  readonly ticks: boolean
  readonly isTable: boolean
  readonly begin: () => void
  readonly reference: S
}

export const Input = reading("input")
export const Others = reading("others")
export const Thirds = reading("thirds")
export const Bare = Topic.make({ ...common, name: "input", schema: Reading })
/** Tables that brokers do not compact: they take records without a key. */
export const Changes = Topic.make({
  ...common,
  name: "input",
  schema: Reading,
  eventTime: ({ at }) => at,
})
export const Rows = Topic.make({
  ...common,
  name: "others",
  schema: Reading,
  eventTime: ({ at }) => at,
})
/** By the last digit: another key than before. */
export const Moved = Topic.make({
  ...common,
  name: "moved",
  schema: Reading,
  eventTime: ({ at }) => at,
  key: ["digit", ({ n }) => String(Math.abs(n) % 3)],
})

export const sources: ReadonlyArray<Source> = [
  { of: Input, topic: "input", time: "value" },
  { of: Others, topic: "others", time: "value" },
]
export const tableSources: ReadonlyArray<Source> = [
  { ...sources[0]!, of: Changes, isTable: true },
  { ...sources[1]!, of: Rows, isTable: true },
]

export const decoded = (topic: Topic.Topic<Reading>) => Ingest.topic(topic).pipe(Decode.schema) as AnyFlow

export const usesOf = (steps: ReadonlyArray<Step>) => steps.flatMap(({ uses }) => uses)
export const namesOf = (steps: ReadonlyArray<Step>) =>
  steps.map(({ name }) => name).filter((name) => name !== "").join(" | ")

export const topology = <S extends Shape>(
  steps: ReadonlyArray<Step>,
  of: Pick<Topology<S>, "name" | "flow" | "sources" | "reference"> & {
    readonly uses: ReadonlyArray<string>
    readonly ticks?: boolean
  },
): Topology<S> => ({
  ticks: false,
  ...of,
  uses: [...new Set([...of.uses, ...usesOf(steps)])],
  isTable: steps.some(({ isTable }) => isTable === true) || of.reference.kind === "foreign key",
  begin: () => steps.forEach(({ begin }) => begin?.()),
})
