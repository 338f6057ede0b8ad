/**
 * A pipeline with everything that a commit can hold (outputs, dead letters, late records, two stores, their clocks), input
 * for it, and what it must have committed in the end, computed without any of the library.
 */
import { Schema } from "effect"
import {
  Aggregate,
  DeadLetter,
  Decode,
  Deduplicate,
  Deliver,
  Failures,
  Flow,
  Ingest,
  Pipeline,
  Topic,
  Window,
} from "../../src/index.ts"
import type { TopicRecord } from "../../src/kafka/ClusterMemory.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import type { Dice } from "./Seeds.ts"

export const partitions = 3
const common = { description: "Test", owner: "tests" }

const Reading = Schema.Struct({ id: Schema.String, at: Schema.Int })
export const Readings = Topic.make({
  ...common,
  name: "readings",
  schema: Reading,
  eventTime: (reading: typeof Reading.Type) => reading.at,
  partitions,
})
const Copies = Topic.make({ ...common, name: "copies", schema: Reading, partitions: 2 })
const Counts = Topic.make({
  ...common,
  name: "counts",
  schema: Schema.Struct({ key: Schema.String, start: Schema.Int, value: Schema.Int, final: Schema.Boolean }),
  key: ["key and minute", (count) => `${count.key}@${count.start}`],
  partitions: 2,
  cleanup: "compact",
})
const Dlt = Topic.bytes({ ...common, name: "dlt", partitions: 1 })
const Late = Topic.bytes({ ...common, name: "late", partitions: 1 })

export const topics = [Readings, Copies, Counts, Dlt, Late]

const minute = 60_000
const grace = 30_000

export const pipeline = <R>(guarantee: Pipeline.Guarantee<unknown, R>) =>
  Pipeline.make(
    "counting",
    Ingest.topic(Readings).pipe(
      Decode.schema,
      Deduplicate.by({ name: "seen", id: (reading) => reading.id }),
      Deliver.to(Copies),
      Aggregate.count({ name: "minutes", window: Window.tumbling({ size: minute, grace }) }),
      Flow.map(({ key, start, value, final }) => ({ key, start, value, final })),
      Deliver.to(Counts),
      Failures.route({
        DecodeError: DeadLetter.to(Dlt),
        Keyless: DeadLetter.to(Dlt),
        Undeliverable: DeadLetter.to(Dlt),
        Late: DeadLetter.to(Late),
      }),
    ),
    guarantee,
  )

export interface Input {
  readonly topic: string
  readonly partition: number
  readonly key: string
  readonly value: string
}

/** Records with repeats, damaged ones and event times that wander, some too late. */
export const input = (dice: Dice, length: number): ReadonlyArray<Input> => {
  let at = 100 * minute
  return Array.from({ length }, (_, i) => {
    const key = dice.pick(["ann", "ben", "cho", "dee", "eva"])
    at += dice.int(-20_000, 30_000)
    const id = dice.int(0, 9) === 0 ? `${key}-repeat-${dice.int(0, 3)}` : `${key}-${i}`
    const value = dice.int(0, 19) === 0 ? `damaged ${i}` : JSON.stringify({ id, at })
    return { topic: Readings.name, partition: forKey(Buffer.from(key), partitions), key, value }
  })
}

/** What was committed, in a form that can be compared. */
export interface Results {
  /** Per key, in order. */
  readonly copies: Readonly<Record<string, ReadonlyArray<string>>>
  /** The last value per key and minute. */
  readonly counts: Readonly<Record<string, string>>
  /** The highest count per key and minute: without transactions an older value may stand after it. */
  readonly highest: Readonly<Record<string, number>>
  readonly dead: ReadonlyArray<string>
  readonly late: ReadonlyArray<string>
}

export const expected = (records: ReadonlyArray<Input>): Results => {
  const copies: Record<string, Array<string>> = {}
  const counts: Record<string, string> = {}
  const highest: Record<string, number> = {}
  const dead: Array<string> = []
  const late: Array<string> = []
  for (let partition = 0; partition < partitions; partition++) {
    let clock = -Infinity
    const seen = new Set<string>()
    const open = new Map<string, { key: string; start: number; value: number }>()
    const put = (key: string, start: number, value: number, final: boolean) => {
      counts[`${key}@${start}`] = JSON.stringify({ key, start, value, final })
      highest[`${key}@${start}`] = value
    }
    for (const { key, value } of records.filter((record) => record.partition === partition)) {
      if (value.startsWith("damaged")) {
        dead.push(value)
        continue
      }
      const { id, at } = JSON.parse(value) as { id: string; at: number }
      clock = Math.max(clock, at)
      for (const [name, window] of open) {
        if (window.start + minute > clock - grace) continue
        put(window.key, window.start, window.value, true)
        open.delete(name)
      }
      if (seen.has(id)) continue
      seen.add(id)
      const already = copies[key] ?? []
      copies[key] = already
      already.push(value)
      const start = Math.floor(at / minute) * minute
      if (start + minute <= clock - grace) {
        late.push(value)
        continue
      }
      const window = open.get(`${key}@${start}`) ?? { key, start, value: 0 }
      window.value++
      open.set(`${key}@${start}`, window)
      put(key, start, window.value, false)
    }
  }
  return { copies, counts, highest, dead: dead.sort(), late: late.sort() }
}

export const results = (read: (topic: string) => ReadonlyArray<TopicRecord>): Results => {
  const texts = (topic: string) => read(topic).map((record) => String(record.value)).sort()
  const copies: Record<string, Array<string>> = {}
  for (const { key, value } of read("copies")) (copies[String(key)] ??= []).push(String(value))
  const counts: Record<string, string> = {}
  const highest: Record<string, number> = {}
  for (const { key, value } of read("counts")) {
    counts[String(key)] = String(value)
    const count = (JSON.parse(String(value)) as { value: number }).value
    highest[String(key)] = Math.max(count, highest[String(key)] ?? 0)
  }
  return { copies, counts, highest, dead: texts("dlt"), late: texts("late") }
}
