/**
 * Random pipelines as programs on the in-memory cluster, which die at any request and are taken over: what is committed in
 * the end is what a naive computation over the whole input says.
 */
import { assert, it } from "@effect/vitest"
import { Effect, References } from "effect"
import { Topology } from "../../src/index.ts"
import { text } from "../../src/Topic.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import { program } from "./draw/OneTopic.ts"
import { moving, referring } from "./draw/SeveralTasks.ts"
import { Dlt, Finals } from "./draw/Steps.ts"
import { Moved, type Source } from "./draw/Topology.ts"
import { arriving, results, through } from "./Dying.ts"
import * as Input from "./Input.ts"
import { ofRecords, ofReference } from "./Observed.ts"
import { decode } from "./reference/Decoding.ts"
import { route } from "./reference/Handling.ts"
import { repartitioned } from "./reference/Merging.ts"
import { send } from "./reference/Plain.ts"
import type { Stream } from "./reference/Stream.ts"
import type { Row } from "./reference/Tables.ts"
import { parts } from "./Running.ts"

const input = (dice: Dice, { isTable = false }: Source) =>
  arriving(Input.draw(dice, { isTable, byKafka: false, ticks: false, isWild: false }))

/** All that fails goes to the dead. */
const buried = (stream: Stream): Stream =>
  route(Object.fromEntries(stream.failed.map(({ reason }) => [reason, "dead letter"])), Dlt.name)(stream)

/** What is left goes to a last topic. */
const ended = (stream: Stream): Stream => buried(send(Finals.name, ({ id, n }) => `${id} ${n}`)(stream))

/** Where transactions end the topic between two kinds of tasks has gaps: its offsets say nothing. */
const nowhere = ({ [Dlt.name]: dead = {}, ...sent }: ReturnType<typeof ofRecords>) => ({
  ...sent,
  dead: Object.values(dead).flat().map((letter) => letter.replace(/^moved@\d+/, "moved")).sort(),
})

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

it.effect(
  "random pipelines that die at any request come to what a naive computation says",
  () =>
    forSeeds(1_000, (dice) =>
      Effect.gen(function* () {
        const { name, flow, sources: [source], reference, isTable } = program(dice)
        const came = input(dice, source!)
        const read = yield* through(flow, [[source!.of, came]], [], dice)
        const { sent } = ofReference(ended(reference.of([decode(source!)(came)])), isTable)
        assert.deepStrictEqual(ofRecords(results, read, isTable), sent, name)
      })).pipe(quiet),
  240_000,
)

it.effect(
  "random pipelines of two kinds of tasks, by another key in the middle",
  () =>
    forSeeds(250, (dice) =>
      Effect.gen(function* () {
        const { name, flow, sources: [source], reference, isTable } = moving(dice, 1)
        const came = input(dice, source!)
        const read = yield* through(flow, [[source!.of, came]], [Moved], dice)
        const first = buried(reference.before(decode(source!)(came)))
        const written = first.values.map((value) => ({
          writer: 0,
          clock: value.clock,
          arrival: 0,
          value: { ...value, key: String(Math.abs(value.n) % 3) },
        }))
        const last = ended(reference.after(repartitioned(Moved.name, written, 1)))
        const { sent } = ofReference({ ...last, sent: [...first.sent, ...last.sent] }, isTable)
        assert.deepStrictEqual(nowhere(ofRecords(results, read, isTable)), nowhere(sent), name)
      })).pipe(quiet),
  240_000,
)

it.effect(
  "random joins by foreign key, of three kinds of tasks",
  () =>
    forSeeds(250, (dice) =>
      Effect.gen(function* () {
        const { name, flow, sources, reference } = referring(dice)
        const came = sources.map((source) => input(dice, source))
        const between = parts(flow).flatMap((part) => Topology.of(part).reads)
          .filter((topic) => !sources.some(({ of }) => of === topic))
        const read = yield* through(flow, sources.map(({ of }, i) => [of, came[i]!]), between, dice)
        const [left, right] = sources.map((source, i) => decode(source)(came[i]!))
        const rows = [...reference.of(left!, right!)].map(([key, { id, n }]) => `${key} ${id} ${n}`)
        const last = new Map(read(Finals.name).map(({ key, value }) => [text(key!), JSON.parse(text(value!)) as Row]))
        const found = [...last].filter(([, { id }]) => !id.endsWith(" gone")).map(([key, { id, n }]) =>
          `${key} ${id} ${n}`
        )
        assert.deepStrictEqual(found.sort(), rows.sort(), name)
      })).pipe(quiet),
  240_000,
)
