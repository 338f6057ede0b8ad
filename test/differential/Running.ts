/** Random pipelines at work: cut into batches anywhere, ended after any of them, and started again from what was committed. */
import { Effect } from "effect"
import { Topology } from "../../src/index.ts"
import type { Outgoing } from "../../src/Batch.ts"
import { type Any as AnyTopic, text } from "../../src/Topic.ts"
import { committed, type Rec, run, sources, type Tick } from "../support/FlowRunner.ts"
import { by, JumpingClock } from "../support/JumpingClock.ts"
import type { Dice } from "../support/Seeds.ts"
import type { AnyFlow } from "./draw/Steps.ts"
import type { AnyBatch } from "./Observed.ts"

/** What a task reads of one topic. */
export interface Log {
  readonly records: ReadonlyArray<Rec>
  readonly ticks?: ReadonlyArray<Tick>
  /** How many tasks have written it. */
  readonly upstream?: number
}

export interface Ran {
  readonly batches: ReadonlyArray<AnyBatch>
  /** How often the task was started again, and how often with something in its stores. */
  readonly restarts: number
  readonly restartsWithState: number
}

const isTick = ({ source }: AnyBatch) => source.silence !== undefined

/** A task from the first record to the last. No input of several ends before the task does: one that is read never ends. */
export const task = Effect.fnUntraced(function* (
  flow: AnyFlow,
  logs: ReadonlyMap<AnyTopic, Log>,
  dice: Dice,
  { begin = () => {}, partition = 0 }: { readonly begin?: () => void; readonly partition?: number } = {},
) {
  let batches: ReadonlyArray<AnyBatch> = []
  let restarts = 0
  let restartsWithState = 0
  // Nobody waits for the wall clock; a merge of topics would take that for silence.
  const running = logs.size === 1 ? by(new JumpingClock(0))(flow) as AnyFlow : flow
  const ends = ({ source }: AnyBatch) => source.next === logs.get(source.topic)!.records.length
  for (let left = dice.int(0, 3); left >= 0; left--) {
    const start = { ...committed(batches), partition }
    const passed = batches.filter(isTick).length
    const inputs = new Map(Array.from(logs, ([topic, { records, ticks = [], upstream }]) => [
      topic,
      sources(topic, records, dice.list(0, 8, () => dice.int(0, 50)), {
        position: start.positions.get(topic) ?? 0,
        upstream,
        ticks: ticks.slice(passed),
      }),
    ]))
    begin()
    const ran = (yield* run(running, inputs, start)).batches as ReadonlyArray<AnyBatch>
    const end = logs.size === 1 ? -1 : ran.findIndex(ends)
    batches = [...batches, ...left === 0 ? ran : ran.slice(0, dice.int(0, end === -1 ? ran.length : end))]
    if (left === 0) break
    restarts++
    if ([...committed(batches).stores.values()].some(({ entries }) => entries.size > 0)) restartsWithState++
  }
  return { batches, restarts, restartsWithState } satisfies Ran
})

/** Which of several writers comes next, until all that they have written is there: some are far behind others. */
export const order = (dice: Dice, lengths: ReadonlyArray<number>): ReadonlyArray<number> => {
  const left = [...lengths]
  const order: Array<number> = []
  while (left.some((length) => length > 0)) {
    const writer = dice.pick([...left.keys()].filter((writer) => left[writer]! > 0))
    const next = Math.min(left[writer]!, dice.pick([1, 1, 3, 20]))
    left[writer]! -= next
    for (let i = 0; i < next; i++) order.push(writer)
  }
  return order
}

/** What tasks have written to a topic, as it then stands there. */
export const written = (
  all: ReadonlyArray<ReadonlyArray<Outgoing>>,
  order: ReadonlyArray<number>,
  arrivals: ReadonlyArray<number>,
): ReadonlyArray<Rec> => {
  const next = all.map(() => 0)
  return order.map((writer, i) => {
    const { key, value, headers = [] } = all[writer]![next[writer]!++]!
    return { key: key && text(key), value: value && text(value), headers, timestamp: arrivals[i]! }
  })
}

/** The kinds of tasks of a flow, those that write first. */
export const parts = (flow: AnyFlow): ReadonlyArray<AnyFlow> =>
  Topology.subflows(flow) as unknown as ReadonlyArray<AnyFlow>

/** What batches send to a topic. */
export const sentTo = (topic: string, batches: ReadonlyArray<AnyBatch>): ReadonlyArray<Outgoing> =>
  batches.flatMap(({ outgoing }) => outgoing.filter((out) => out.topic === topic))
