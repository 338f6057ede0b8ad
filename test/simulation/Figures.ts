/** What runs have come to in numbers. */
import { assert } from "@effect/vitest"
import { type Name, plan, type Planned } from "./Plan.ts"
import { type Kind, Tally } from "./Tally.ts"
import type { Ran } from "./World.ts"

export class Figures {
  readonly #name: Name
  readonly #began = process.cpuUsage()
  readonly tally = new Tally()
  runs = 0
  /** Runs in which a program died. */
  crashes = 0

  constructor(name: Name) {
    this.#name = name
  }

  add({ tally }: Ran): void {
    this.runs++
    if (deadly.some((kind) => tally.of(kind) > 0)) this.crashes++
    this.tally.addAll(tally)
  }

  /** What is planned must have been met; with seeds of one's own it need not be. */
  print(): void {
    const { user, system } = process.cpuUsage(this.#began)
    const millis = ((user + system) / 1_000 / this.runs).toFixed(0)
    console.log(
      `${this.#name}: ${this.runs} runs, ${this.crashes} of them with a crash, ${this.tally.total} faults, ${millis} ms each\n` +
        this.tally.table,
    )
    if (process.env["SEED"] !== undefined || process.env["STEP"] !== undefined) return
    const { deaths, kinds = [] }: Planned = plan[this.#name]
    assert.isAtLeast(this.crashes, deaths, "runs in which a program dies")
    for (const kind of kinds) assert.isAtLeast(this.tally.of(kind), 1, `never met: ${kind}`)
  }
}

const deadly: ReadonlyArray<Kind> = ["crash before a call", "crash after a call", "program killed"]
