/** The clickstream's programs die at every step: before and after every call to the brokers and every statement. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { forSeeds } from "../support/Seeds.ts"
import { attempt } from "./Case.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import type { Decision } from "./Decision.ts"
import { calm } from "./Draw.ts"
import { Figures } from "./Figures.ts"
import { type Name, plan } from "./Plan.ts"
import { crashes } from "./Steps.ts"
import type { System } from "./World.ts"

/** What commits consist of. */
const commit = ["AddPartitionsToTxn", "Produce", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"]
const transaction = ["Begin", "Query", "Commit"]

/** Runs each case without a fault, and then with a crash before and after every call of the first program of a pipeline. */
const atEveryStep = (
  name: Name,
  systems: ReadonlyArray<System>,
  { length, of: expected, dies = () => true }: {
    readonly length: number
    /** Steps that there must have been. */
    readonly of: ReadonlyArray<string>
    readonly dies?: (pipeline: string) => boolean
  },
) =>
  Effect.gen(function* () {
    const figures = new Figures(name)
    const steps = new Map<string, number>()
    yield* forSeeds(plan[name].runs, (dice, seed) =>
      Effect.forEach(systems, (system) =>
        Effect.gen(function* () {
          const decisions = calm(system, messages(dice, length))
          const of = (more: ReadonlyArray<Decision>, step: string) => ({
            system,
            decisions: [...more, ...decisions],
            options: { seed },
            replay: `${step}SEED=${seed} npx vitest run test/simulation/everyStep.test.ts -t "${name}"`,
          })
          const whole = yield* attempt(of([], ""))
          for (const { fault, step } of crashes(system, whole)) {
            if (!dies(fault.who.pipeline)) continue
            const ran = yield* attempt(of([fault], `STEP="${step}" `))
            assert.isAtLeast(
              ran.tally.of(fault.kind === "crash before" ? "crash before a call" : "crash after a call"),
              1,
              step,
            )
            figures.add(ran)
            steps.set(fault.call, (steps.get(fault.call) ?? 0) + 1)
          }
        }), { discard: true }))
    figures.print()
    if (process.env["SEED"] !== undefined || process.env["STEP"] !== undefined) return
    for (const call of expected) assert.isAtLeast(steps.get(call) ?? 0, 4, call)
  })

it.effect(
  "clickstream, every step",
  () => atEveryStep("clickstream, every step", [Clickstream.clickstream("patient")], { length: 24, of: commit }),
  600_000,
)

it.effect(
  "clickstream keyed by visitor, every step",
  () =>
    atEveryStep("clickstream keyed by visitor, every step", [Clickstream.byVisitor("patient")], {
      length: 24,
      of: commit,
      dies: (pipeline) => pipeline === Clickstream.enrichByVisitor,
    }),
  600_000,
)

it.effect(
  "clickstream's tables, every step",
  () =>
    atEveryStep("clickstream's tables, every step", Clickstream.inOneTable, {
      length: 12,
      of: transaction,
      dies: (pipeline) => Clickstream.writers.has(pipeline),
    }),
  600_000,
)
