/** Random cases by a name of the plan, each in its run. */
import { Effect } from "effect"
import { type Dice, forSeeds } from "../support/Seeds.ts"
import { attempt } from "./Case.ts"
import type { Decision } from "./Decision.ts"
import { Figures } from "./Figures.ts"
import { type Name, plan } from "./Plan.ts"
import type { System } from "./World.ts"

export interface Drawn {
  readonly system: System
  readonly decisions: ReadonlyArray<Decision>
}

export const through = (file: string, name: Name, draw: (dice: Dice, seed: number) => Drawn) =>
  Effect.gen(function* () {
    const figures = new Figures(name)
    yield* forSeeds(plan[name].runs, (dice, seed) =>
      Effect.gen(function* () {
        const { system, decisions } = draw(dice, seed)
        const replay = `SEED=${seed} npx vitest run test/simulation/${file} -t "${name}"`
        figures.add(yield* attempt({ system, decisions, options: { seed }, replay }))
      }))
    figures.print()
  })
