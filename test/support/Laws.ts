/** Laws 0 to 4 of every stage, over random records cut into batches anywhere, and law 5 as far as one task sees it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Batch, Failed } from "../../src/Batch.ts"
import { keyBytes, offsetOf, row } from "../../src/Batch.ts"
import { encodeClock } from "../../src/StreamTime.ts"
import { type Any as AnyTopic, text } from "../../src/Topic.ts"
import * as Topology from "../../src/Topology.ts"
import { committed, type Rec, run, sources, type Start, type Tick } from "./FlowRunner.ts"
import { type Dice, forSeeds } from "./Seeds.ts"
import { type Case, Dlt, records } from "./StageCases.ts"

type AnyBatch = Batch<unknown, unknown>

/** What is observed of a value, for comparing runs. */
type Outcome = readonly [key: string | null, value: unknown, at: number | undefined, clock: number | undefined]

const textOf = (bytes: Uint8Array | null): string | null => bytes && text(bytes)

const tag = (failed: Failed<unknown>): string => (failed.reason as { readonly _tag: string })._tag

const origin = ({ source }: AnyBatch, row: number): string => `${source.topic.name}:${offsetOf(source, row)}`

const isTick = ({ source }: AnyBatch): boolean => source.silence !== undefined

/** Everything that a run commits, by source offset, so that runs with different cuts can be compared. */
const observed = (of: Case, batches: ReadonlyArray<AnyBatch>) => {
  const values = batches.flatMap((batch) =>
    batch.values.map((value, i): Outcome => [
      textOf(keyBytes(batch, i)),
      value,
      batch.time?.timestamps[i],
      batch.time?.clock[i],
    ])
  )
  const reasons = (rows: (batch: AnyBatch) => ReadonlyArray<readonly [row: number, reason: unknown]>) =>
    batches.flatMap((batch) => rows(batch).map(([row, reason]) => `${origin(batch, row)} ${reason}`)).sort()
  const outgoing = batches.flatMap((batch) =>
    batch.outgoing.map(({ topic, key, value, headers = [], row }) => ({
      topic,
      key: textOf(key),
      value: textOf(value),
      headers: headers.map(([name, value]) => `${name}: ${Buffer.from(value).toString("hex")}`),
      row: origin(batch, row),
    }))
  )
  const { clocks } = committed(batches)
  return {
    values: of.table === undefined
      ? values
      : [...new Map(values.map((value) => [of.table!(value[1] as never), value]))].sort(([a], [b]) => a < b ? -1 : 1),
    failed: reasons((batch) => batch.failed.map((failed) => [failed.row, tag(failed)])),
    dropped: reasons((batch) => batch.dropped.map((dropped) => [dropped.row, dropped.reason])),
    outgoing: outgoing.filter(({ topic }) => topic !== "latest"),
    latest: new Map(outgoing.filter(({ topic }) => topic === "latest").map(({ key, value }) => [key, value])),
    folded: batches.flatMap((batch) => batch.folded).reduce((sum, folded) => sum + folded.count, 0),
    clocks: new Map(Array.from(clocks, ([topic, clock]) => [topic.name, encodeClock(clock, 3_000)])),
  }
}

/** Laws 0 and 1: batches in order, with their positions. A merge of topics may cut batches and does nothing else to them. */
const keepsPositions = (batches: ReadonlyArray<AnyBatch>, given: ReadonlyMap<AnyTopic, ReadonlyArray<Rec>>) => {
  for (const [topic, records] of given) {
    const own = batches.filter(({ source }) => source.topic === topic)
    assert.deepStrictEqual(own.flatMap(({ source }) => [...source.offsets]), records.map((_, offset) => offset))
    for (const [i, { source }] of own.entries()) {
      assert.strictEqual(
        source.next,
        own.slice(i + 1).find((later) => !isTick(later))?.source.offsets[0] ?? records.length,
      )
      assert.deepStrictEqual(
        source.bytes.map(textOf),
        records.slice(source.next - source.length, source.next).map(({ value }) => value),
      )
    }
    const size = records.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0)
    assert.strictEqual(own.reduce((sum, { source }) => sum + source.size, 0), size)
  }
}

/** Law 2: every row of a batch is accounted for, once. */
const accountsForRows = (of: Case, batch: AnyBatch) => {
  const forwarded = new Set(batch.values.map((_, i) => row(batch, i)))
  const undoing = batch.failed.filter(({ kept }) => kept === undefined)
  const undone = undoing.map(({ row }) => row)
  const late = batch.failed.filter(({ kept }) => kept === true).map(({ row }) => row)
  const dropped = batch.dropped.map(({ row }) => row)
  const aside = [Dlt.name, ...of.aside ?? []]
  const buried = batch.outgoing.filter(({ topic }) => aside.includes(topic)).map(({ row }) => row)
  const gone = [...undone, ...late, ...dropped, ...buried]
  const folded = batch.folded.reduce((sum, folded) => sum + folded.count, 0)
  assert.strictEqual(
    new Set(undoing.map(({ unit, row }) => unit ?? row)).size,
    undoing.length,
    "what fails does so once",
  )
  for (const list of [batch.failed, batch.dropped, batch.folded, batch.outgoing] as Array<Array<unknown>>) {
    assert.strictEqual(new Set(list).size, list.length, "nothing is counted twice")
  }
  // A row that failed may have closed windows, because time has passed all the same.
  for (const row of batch.folded.length === 0 ? undone : []) {
    assert.isFalse(batch.outgoing.some((out) => out.row === row), "a failed row sends nothing")
    assert.isFalse(forwarded.has(row), "a failed row has no values")
  }
  for (const row of gone) assert.isTrue(row >= 0 && row < batch.source.length || isTick(batch), "a row of the batch")
  if (of.fansOut) {
    if (batch.folded.length === 0) assert.strictEqual(new Set([...forwarded, ...gone]).size, batch.source.length)
  } else if (batch.folded.length > 0) {
    assert.strictEqual(folded + gone.length + (of.foldsSome ? forwarded.size : 0), batch.source.length)
  } else {
    assert.strictEqual(forwarded.size + gone.length, batch.source.length)
    assert.strictEqual(forwarded.size, batch.values.length)
  }
}

/** Law 3. */
const keepsOrder = (batch: AnyBatch) => {
  for (let i = 1; i < batch.values.length; i++) assert.isAtMost(row(batch, i - 1), row(batch, i))
}

const draw = (of: Case, dice: Dice): ReadonlyMap<AnyTopic, ReadonlyArray<Rec>> => {
  const { reads } = Topology.of(of.flow)
  return new Map(reads.map((topic, i) => [topic, records(dice, i === 0 ? of.upstream : undefined)]))
}

/** Ticks of the wall clock somewhere in the input, where it is one topic. */
const drawTicks = (given: ReadonlyMap<AnyTopic, ReadonlyArray<Rec>>, dice: Dice): ReadonlyArray<Tick> => {
  const [records, ...more] = given.values()
  if (more.length > 0) return []
  return dice.list(0, 3, () => ({ before: dice.int(0, records!.length), silence: dice.int(1, 120) * 1_000 }))
    .sort((a, b) => a.before - b.before)
}

const cut = (
  of: Case,
  given: ReadonlyMap<AnyTopic, ReadonlyArray<Rec>>,
  ticks: ReadonlyArray<Tick>,
  dice?: Dice,
  start?: Start,
) =>
  new Map(Array.from(given, ([topic, records]) => [
    topic,
    sources(topic, records, dice === undefined ? [] : dice.list(0, 12, () => dice.int(0, 60)), {
      position: start?.positions.get(topic) ?? 0,
      upstream: topic === Topology.of(of.flow).reads[0] ? of.upstream : undefined,
      ticks,
    }),
  ]))

/** How many batches came before an input of several ended: no input ends that a task reads. */
const unfinished = (batches: ReadonlyArray<AnyBatch>, given: ReadonlyMap<AnyTopic, ReadonlyArray<Rec>>): number => {
  const end = batches.findIndex(({ source }) => source.next === given.get(source.topic)!.length)
  return given.size === 1 || end === -1 ? batches.length : end
}

/** Declares the law tests of flows that a single task runs. */
export const laws = (cases: ReadonlyArray<Case>): void =>
  describe.each(cases)("$name", (of) => {
    it.effect("laws", () =>
      forSeeds(50, (dice) =>
        Effect.gen(function* () {
          const given = draw(of, dice)
          const ticks = drawTicks(given, dice)
          const { batches, inputs, stores } = yield* run(of.flow, cut(of, given, ticks, dice))
          if (given.size === 1) {
            assert.strictEqual(batches.length, inputs.length)
            batches.forEach((batch, i) => assert.strictEqual(batch.source, inputs[i]))
          }
          keepsPositions(batches, given)
          for (const batch of batches) {
            accountsForRows(of, batch)
            keepsOrder(batch)
          }

          // 4: cuts do not matter.
          const whole = yield* run(of.flow, cut(of, given, ticks))
          assert.deepStrictEqual(observed(of, batches), observed(of, whole.batches))
          if (!of.storesByBatch) assert.deepStrictEqual(stores, whole.stores)

          // 5: neither does an end after any batch, with a start from what is committed.
          const before = batches.slice(0, dice.int(0, unfinished(batches, given)))
          const start = committed(before)
          const left = ticks.slice(before.filter(isTick).length)
          const after = yield* run(of.flow, cut(of, given, left, dice, start), start)
          assert.deepStrictEqual(observed(of, [...before, ...after.batches]), observed(of, whole.batches))
          if (!of.storesByBatch) assert.deepStrictEqual(after.stores, whole.stores)
        })))
  })
