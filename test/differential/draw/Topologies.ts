/** Pipelines of random steps, over one topic or several, in one task or several kinds of them. */
import type { Dice } from "../../support/Seeds.ts"
import { single } from "./OneTopic.ts"
import { moving, referring } from "./SeveralTasks.ts"
import type { Topology } from "./Topology.ts"
import { joining, merging, tables } from "./SeveralTopics.ts"

type Draw = (dice: Dice) => Topology

const shapes: ReadonlyArray<readonly [draw: Draw, share: number]> = [
  [single, 6],
  [merging, 2],
  [joining, 4],
  [tables, 2],
  [referring, 1],
  [moving, 1],
]

const shares = shapes.flatMap(([draw, share]) => Array.from({ length: share }, () => draw))

export const draw = (dice: Dice): Topology => dice.pick(shares)(dice)
