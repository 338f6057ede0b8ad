/** Pipelines over one topic in one task. */
import { Decode, Flow, Ingest } from "../../../src/index.ts"
import type { Dice } from "../../support/Seeds.ts"
import * as Commands from "./Commands.ts"
import { any, ending } from "./Operators.ts"
import { type AnyFlow, through } from "./Steps.ts"
import { referenceOf } from "./Tables.ts"
import { Bare, decoded, Input, namesOf, type OneTask, type Source, type Topology, topology } from "./Topology.ts"

/** One topic in one task, with or without a wall clock. */
export const single = (dice: Dice): Topology =>
  ofOneTopic(dice, dice.int(0, 2) === 0, dice.pick(["schema", "schema", "schema", "within", "kafka"]))

const ofOneTopic = (
  dice: Dice,
  ticks: boolean,
  how: "schema" | "within" | "kafka",
): Topology<OneTask> => {
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
  return topology(steps, {
    name: `${how}${ticks ? ", ticks" : ""} | ${namesOf(steps)}`,
    uses: [`Decode ${how}`, ...ticks ? ["wall-clock ticks"] : []],
    ticks,
    flow: through(begun, steps),
    sources: [source],
    reference: { kind: "one task", of: ([stream]) => referenceOf(steps)(stream!) },
  })
}

/** For whole programs, which are slower: no clock but that of events. */
export const program = (dice: Dice) => ofOneTopic(dice, false, "schema")
