/**
 * The clickstream's programs live through everything that can happen to them; what stands in its topics and tables in the end
 * is what an independent computation says.
 */
import { describe, it } from "@effect/vitest"
import type { Dice } from "../support/Seeds.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import { chaos } from "./Draw.ts"
import type { Name } from "./Plan.ts"
import { through } from "./Through.ts"
import type { System } from "./World.ts"

const cases = (name: Name, length: number, system: (dice: Dice) => System) =>
  it.effect(name, () =>
    through("clickstream.test.ts", name, (dice) => {
      const one = system(dice)
      return { system: one, decisions: chaos(dice, one, messages(dice, length), Clickstream.writers) }
    }), 600_000)

const how = (dice: Dice) => dice.pick(["patient", "hasty"] as const)

describe("exactly once", () => {
  cases("clickstream, chaos", 50, (dice) => Clickstream.clickstream(how(dice)))
  cases("clickstream keyed by visitor, chaos", 50, (dice) => Clickstream.byVisitor(how(dice)))
  cases("clickstream with tables, chaos", 40, (dice) => Clickstream.whole(how(dice)))
})

describe("at least once", () => cases("clickstream at least once, chaos", 50, () => Clickstream.atLeastOnce()))
