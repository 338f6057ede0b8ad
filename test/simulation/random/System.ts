/** Random pipelines, drawn as the differential test draws them, and what a naive computation says of them. */
import { assert } from "@effect/vitest"
import { DeadLetter, Deliver, Failures, Guarantee, Pipeline, Topic, Topology } from "../../../src/index.ts"
import { text } from "../../../src/Topic.ts"
import { program } from "../../differential/draw/OneTopic.ts"
import { moving, referring } from "../../differential/draw/SeveralTasks.ts"
import { type AnyFlow, Dlt, Events, Finals, Kept, Output } from "../../differential/draw/Steps.ts"
import { Latest } from "../../differential/draw/Tables.ts"
import { Moved, type Source } from "../../differential/draw/Topology.ts"
import * as Input from "../../differential/Input.ts"
import { ofRecords, ofReference } from "../../differential/Observed.ts"
import { decode } from "../../differential/reference/Decoding.ts"
import { route } from "../../differential/reference/Handling.ts"
import { repartitioned } from "../../differential/reference/Merging.ts"
import { send } from "../../differential/reference/Plain.ts"
import type { Came, Stream } from "../../differential/reference/Stream.ts"
import type { Row } from "../../differential/reference/Tables.ts"
import { parts } from "../../differential/Running.ts"
import type { Dice } from "../../support/Seeds.ts"
import type { Fed } from "../Decision.ts"
import { type Ended, epoch, type System } from "../World.ts"

/** What a pipeline can write. */
const results: ReadonlyArray<Topic.Any> = [Output, Events, Kept, Latest, Finals, Dlt]

export interface Drawn {
  readonly name: string
  readonly system: System
  readonly input: ReadonlyArray<Fed>
}

/** As foreign producers write them: a tombstone says nothing of its time, and everything arrives at once. */
const inputOf = (dice: Dice, { of, isTable = false }: Source): ReadonlyArray<Fed> =>
  Input.draw(dice, { isTable, byKafka: false, ticks: false, isWild: false })
    .map(({ key, value }): Fed => ({ topic: of.name, partition: 0, key, value, at: -epoch }))

const cameTo = (topic: Topic.Any, input: ReadonlyArray<Fed>): ReadonlyArray<Came> =>
  input.filter((one) => one.topic === topic.name).map(({ key, value }) => ({ key, value, timestamp: 0 }))

const systemOf = (
  flow: AnyFlow,
  sources: ReadonlyArray<Source>,
  between: ReadonlyArray<Topic.Any>,
  check: (came: ReadonlyArray<ReadonlyArray<Came>>, ended: Ended) => void,
): System => ({
  topics: [...sources.map(({ of }) => of), ...between, ...results],
  pipelines: [
    Pipeline.make(
      "random",
      flow.pipe(Deliver.to(Finals), Failures.routeAll(DeadLetter.to(Dlt))),
      Guarantee.exactlyOnce({ transactionTimeout: 2_500 }),
    ) as Pipeline.Pipeline<unknown, never>,
  ],
  check: (input, ended) => check(sources.map(({ of }) => cameTo(of, input)), ended),
})

/** All that fails goes to the dead. */
const buried = (stream: Stream): Stream =>
  route(Object.fromEntries(stream.failed.map(({ reason }) => [reason, "dead letter"])), Dlt.name)(stream)

/** What is left goes to a last topic. */
const finished = (stream: Stream): Stream => buried(send(Finals.name, ({ id, n }) => `${id} ${n}`)(stream))

/** Where transactions end, the topic between two kinds of tasks has gaps: its offsets say nothing. */
const nowhere = ({ [Dlt.name]: dead = {}, ...sent }: ReturnType<typeof ofRecords>) => ({
  ...sent,
  dead: Object.values(dead).flat().map((letter) => letter.replace(/^moved@\d+/, "moved")).sort(),
})

/** One kind of task. */
export const single = (dice: Dice): Drawn => {
  const { name, flow, sources, reference, isTable } = program(dice)
  const [source] = sources
  const system = systemOf(flow, sources, [], ([came], { records }) => {
    const { sent } = ofReference(finished(reference.of([decode(source!)(came!)])), isTable)
    assert.deepStrictEqual(ofRecords(results, records, isTable), sent, name)
  })
  return { name, system, input: inputOf(dice, source!) }
}

/** Two kinds of tasks, by another key in the middle. */
export const twoKinds = (dice: Dice): Drawn => {
  const { name, flow, sources, reference, isTable } = moving(dice, 1)
  const [source] = sources
  const system = systemOf(flow, sources, [Moved], ([came], { records }) => {
    const first = buried(reference.before(decode(source!)(came!)))
    const written = first.values.map((value) => ({
      writer: 0,
      clock: value.clock,
      arrival: 0,
      value: { ...value, key: String(Math.abs(value.n) % 3) },
    }))
    const last = finished(reference.after(repartitioned(Moved.name, written, 1)))
    const { sent } = ofReference({ ...last, sent: [...first.sent, ...last.sent] }, isTable)
    assert.deepStrictEqual(nowhere(ofRecords(results, records, isTable)), nowhere(sent), name)
  })
  return { name, system, input: inputOf(dice, source!) }
}

/** Three kinds of tasks: a join by foreign key. Compared is the table. */
export const threeKinds = (dice: Dice): Drawn => {
  const { name, flow, sources, reference } = referring(dice)
  const between = parts(flow).flatMap((part) => Topology.of(part).reads)
    .filter((topic) => !sources.some(({ of }) => of === topic))
  const system = systemOf(flow, sources, between, (came, { records }) => {
    const [left, right] = sources.map((source, i) => decode(source)(came[i]!))
    const rows = [...reference.of(left!, right!)].map(([key, { id, n }]) => `${key} ${id} ${n}`)
    const last = new Map(records(Finals.name).map(({ key, value }) => [text(key!), JSON.parse(text(value!)) as Row]))
    const found = [...last].filter(([, { id }]) => !id.endsWith(" gone")).map(([key, { id, n }]) => `${key} ${id} ${n}`)
    assert.deepStrictEqual(found.sort(), rows.sort(), name)
  })
  const [left, right] = sources.map((source) => inputOf(dice, source))
  const longest = Math.max(left!.length, right!.length)
  const input = Array.from({ length: longest }, (_, i) => [left![i], right![i]]).flat().filter((one) =>
    one !== undefined
  )
  return { name, system, input }
}
