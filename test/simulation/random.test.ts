/**
 * Random pipelines as several programs on the in-memory cluster, through everything that can happen to them: what is
 * committed in the end is what a naive computation over the whole input says.
 */
import { it } from "@effect/vitest"
import { Effect } from "effect"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import { attempt } from "./Case.ts"
import { chaos, deaths } from "./Draw.ts"
import { Figures } from "./Figures.ts"
import { type Drawn, single, threeKinds, twoKinds } from "./random/System.ts"

const file = "npx vitest run test/simulation/random.test.ts"

const through = (name: string, runs: number, draw: (dice: Dice) => Drawn) =>
  Effect.gen(function* () {
    const figures = new Figures(name)
    yield* forSeeds(runs, (dice, seed) =>
      Effect.gen(function* () {
        const { system, input } = draw(dice)
        // Most of them only die: that is over sooner.
        const decisions = (seed % 10 === 0 ? chaos : deaths)(dice, system, input)
        figures.add(
          yield* attempt({ system, decisions, options: { seed }, replay: `SEED=${seed} ${file} -t "${name}"` }),
        )
      }))
    figures.print(["crash before a call", "crash after a call", "program killed", "acknowledgement lost"])
  })

for (
  const [name, runs, draw] of [
    ["random pipelines of one kind of task", 3_000, single],
    ["random pipelines of two kinds of tasks, by another key in the middle", 700, twoKinds],
    ["random joins by foreign key, of three kinds of tasks", 300, threeKinds],
  ] as const
) it.effect(name, () => through(name, runs, draw), 600_000)
