/** Random pipelines in random trouble. */
import { it } from "@effect/vitest"
import type { Dice } from "../../support/Seeds.ts"
import { chaos, deaths } from "../Draw.ts"
import type { Name } from "../Plan.ts"
import { through } from "../Through.ts"
import type { Drawn } from "./System.ts"

/** Most of them only die: that is over sooner. */
export const random = (file: string, name: Name, draw: (dice: Dice) => Drawn) =>
  it.effect(name, () =>
    through(file, name, (dice, seed) => {
      const { system, input } = draw(dice)
      return { system, decisions: (seed % 10 === 0 ? chaos : deaths)(dice, system, input) }
    }), 600_000)
