/** One random case: a pipeline, its input, and what it comes to by the library and by its reference. */
import { Effect } from "effect"
import { Topology } from "../../src/index.ts"
import { type Any as AnyTopic, text } from "../../src/Topic.ts"
import type { Dice } from "../support/Seeds.ts"
import { draw } from "./draw/Topologies.ts"
import { Moved, type Topology as Drawn } from "./draw/Topology.ts"
import * as Input from "./Input.ts"
import { type AnyBatch, ofBatches, ofReference } from "./Observed.ts"
import { decode } from "./reference/Decoding.ts"
import { repartitioned, type Written } from "./reference/Merging.ts"
import type { Came, Stream } from "./reference/Stream.ts"
import { type Log, order, parts, type Ran, sentTo, task, written } from "./Running.ts"

/** What is compared, and for counting what really happened. */
export interface Outcome {
  readonly topology: Drawn
  readonly actual: unknown
  readonly expected: unknown
  readonly ran: ReadonlyArray<Ran>
}

const inputOf = ({ sources, ticks, reference }: Drawn, dice: Dice): ReadonlyArray<ReadonlyArray<Came>> =>
  sources.map(({ isTable = false, time }) => {
    // What was deleted a year ago is forgotten, by each kind of task when its own stream time says so.
    const isWild = dice.int(0, 19) === 0 && reference.kind !== "foreign key"
    return Input.draw(dice, { isTable, byKafka: time === "kafka", ticks, isWild })
  })

const logOf = (came: ReadonlyArray<Came>) => ({ records: Input.records(came), ticks: Input.ticks(came) })

export const run = Effect.fnUntraced(function* (dice: Dice) {
  const topology = draw(dice)
  const { reference } = topology
  switch (reference.kind) {
    case "one task":
      return yield* oneTask(topology, reference, dice)
    case "repartition":
      return yield* repartition(topology, reference, dice)
    case "foreign key":
      return yield* foreignKey(topology, reference, dice)
  }
})

type ReferenceOf<K> = Extract<Drawn["reference"], { readonly kind: K }>

const oneTask = Effect.fnUntraced(function* (topology: Drawn, { of }: ReferenceOf<"one task">, dice: Dice) {
  const input = inputOf(topology, dice)
  const logs = new Map(topology.sources.map(({ of }, i) => [of, logOf(input[i]!)]))
  const ran = yield* task(topology.flow, logs, dice, topology)
  const expected = of(topology.sources.map((source, i) => decode(source)(input[i]!)))
  return {
    topology,
    actual: ofBatches(ran.batches, topology.isTable),
    expected: ofReference(expected, topology.isTable),
    ran: [ran],
  } satisfies Outcome
})

/** Tasks that write, each over a partition of its own; then the one that reads what they have written, in any order. */
const repartition = Effect.fnUntraced(function* (
  topology: Drawn,
  { tasks, before, after }: ReferenceOf<"repartition">,
  dice: Dice,
) {
  const [writing, reading] = parts(topology.flow)
  const [source] = topology.sources
  const input = Array.from({ length: tasks }, () => inputOf(topology, dice)[0]!)
  const writers: Array<Ran> = []
  for (const [partition, came] of input.entries()) {
    writers.push(yield* task(writing!, new Map([[source!.of, logOf(came)]]), dice, { partition }))
  }
  const first = input.map((came) => before(decode(source!)(came)))
  const out = writers.map(({ batches }) => sentTo(Moved.name, batches))
  const next = order(dice, out.map(({ length }) => length))
  let arrival = Input.start
  const arrivals = next.map(() => arrival += 5_000 * dice.pick([0, 0, 1, 1, 4, 13]))
  const records = written(out, next, arrivals)
  const ran = yield* task(reading!, new Map([[Moved, { records, upstream: tasks }]]), dice)
  const places = first.map(() => 0)
  const log = next.map((writer, i): Written | undefined => {
    const value = first[writer]!.values[places[writer]!++]
    return value && {
      writer,
      clock: value.clock,
      arrival: arrivals[i]!,
      value: { ...value, key: String(Math.abs(value.n) % 3) },
    }
  })
  const moved = ({ values }: Stream) => values.map(({ id, n, at }) => JSON.stringify({ id, n, at }))
  return {
    topology,
    actual: {
      moved: out.map((sent) => sent.map(({ value }) => text(value!))),
      rest: ofBatches(ran.batches, topology.isTable),
    },
    expected: {
      moved: first.map(moved),
      rest: ofReference(after(repartitioned(Moved.name, log.flatMap((one) => one ?? []), tasks)), topology.isTable),
    },
    ran: [...writers, ran],
  } satisfies Outcome
})

/** Which of two tasks has a key. */
const isOf = (partition: number) => ({ key }: { readonly key: string | null }) =>
  (key ?? "").charCodeAt(0) % 2 === partition

/**
 * Three kinds of tasks, one after the other; two of them answer, each from its own right rows, and their answers come in any
 * order. Compared is the table in the end.
 */
const foreignKey = Effect.fnUntraced(function* (topology: Drawn, { of }: ReferenceOf<"foreign key">, dice: Dice) {
  const input = inputOf(topology, dice)
  const logs = new Map<AnyTopic, Log>(topology.sources.map(({ of }, i) => [of, logOf(input[i]!)]))
  const all: Array<ReadonlyArray<Ran>> = []
  for (const [i, part] of parts(topology.flow).entries()) {
    for (const topic of Topology.of(part).reads) {
      if (logs.has(topic)) continue
      const sent = all.at(-1)!.map(({ batches }) => sentTo(topic.name, batches))
      const next = order(dice, sent.map(({ length }) => length))
      logs.set(topic, { records: written(sent, next, next.map((_, i) => Input.start + i)), upstream: sent.length })
    }
    const tasks: Array<Ran> = []
    for (const partition of i === 1 ? [0, 1] : [0]) {
      const own = Topology.of(part).reads.map((topic): readonly [AnyTopic, Log] => {
        const log = logs.get(topic)!
        return [topic, i === 1 ? { ...log, records: log.records.filter(isOf(partition)) } : log]
      })
      tasks.push(yield* task(part, new Map(own), dice, { partition }))
    }
    all.push(tasks)
  }
  const [left, right] = topology.sources.map((source) => (came: ReadonlyArray<Came>) => decode(source)(came))
  // Each of the two has a stream time of its own, from which deletions count that do not tell theirs.
  const rights = [0, 1].map((partition) => right!(input[1]!.filter(isOf(partition))))
  const rows = of(left!(input[0]!), { ...rights[0]!, values: rights.flatMap(({ values }) => values) })
  return {
    topology,
    actual: rowsOf(all.at(-1)![0]!.batches),
    expected: [...rows].map(([key, { id, n }]) => `${key} ${id} ${n}`).sort(),
    ran: all.flat(),
  } satisfies Outcome
})

const rowsOf = (batches: ReadonlyArray<AnyBatch>): ReadonlyArray<string> => {
  const rows = new Map<string, string>()
  for (const { values, source, rows: at } of batches) {
    for (const [i, { id, n }] of values.entries()) {
      const key = text(source.keys[at?.[i] ?? i]!)
      if (id.endsWith(" gone")) rows.delete(key)
      else rows.set(key, `${key} ${id} ${n}`)
    }
  }
  return [...rows.values()].sort()
}
