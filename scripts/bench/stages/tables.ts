/** Runs the operators and prints what they take, each beside the same work by hand. */
import type { Measured, Order } from "./measure.ts"
import type { Operator } from "./operator.ts"
import { ask } from "./worker.ts"

/** How many keys the operators are compared at with each other. */
const keys = 10_000

const keyCounts = [1_000, 10_000, 100_000, 1_000_000] as const

const measure = (order: Order): Measured => ask("measure", order)

/** Both by turns, so that what else the machine does meets both; of each the best. */
const beside = (name: string, of: Pick<Order, "records" | "keys" | "runs">, by: ReadonlyArray<Order["by"]>) => {
  const rates = by.map((): Measured => ({ perSecond: 0, entries: 0, bytes: 0 }))
  for (let turn = 0; turn < of.runs; turn++) {
    by.forEach((by, n) => {
      const one = measure({ name, by, ...of, runs: of.keys < 1_000_000 ? 2 : 1 })
      if (one.perSecond > rates[n]!.perSecond) rates[n] = one
    })
  }
  return rates
}

const thousands = (rate: number) => (rate / 1_000).toLocaleString("en", { maximumFractionDigits: 0 })
const ratio = (a: number, to: number) => (a / to).toFixed(2)

/** Throws where an operator does not make what the loop makes. */
export const compare = (operators: ReadonlyArray<Operator>): void => {
  let results = 0
  for (const { name } of operators) {
    const order = { name, by: "compare", records: 60_000, keys: 1_000, runs: 1 }
    results += ask<{ readonly equal: number }>("measure", order).equal
  }
  console.log(
    `${operators.length} operators make what the loops make: ${results.toLocaleString("en")} results compared\n`,
  )
}

/** One line per operator. */
export const operatorTable = (operators: ReadonlyArray<Operator>, runs: number): void => {
  console.log(`${keys.toLocaleString("en")} keys; thousands of records a second of CPU\n`)
  console.log("| operator | Millrace | by hand | ratio | without its log | log, bytes per record |")
  console.log("| --- | ---: | ---: | ---: | ---: | ---: |")
  for (const { name, thousands: size = 500 } of operators) {
    const order = { records: size * 1_000, keys, runs }
    const [hand, flow] = beside(name, order, ["hand", "flow"]) as [Measured, Measured]
    const cells = [thousands(flow.perSecond), thousands(hand.perSecond), ratio(flow.perSecond, hand.perSecond)]
    if (flow.entries === 0) cells.push("", "")
    else {
      const [unlogged] = beside(name, order, ["unlogged"]) as [Measured]
      cells.push(ratio(unlogged.perSecond, hand.perSecond), flow.bytes.toFixed(0))
    }
    console.log(`| ${name} | ${cells.join(" | ")} |`)
  }
}

export interface Growth {
  readonly name: string
  /** How many times as much a record costs with the most keys as with a tenth of them: to the stage, and to the loop. */
  readonly times: number
  readonly byHand: number
}

/** The same operators as keys grow, in brackets as a ratio to the loop. */
export const keyTable = (operators: ReadonlyArray<Operator>, runs: number): ReadonlyArray<Growth> => {
  console.log("\nThousands of records a second of CPU, and in brackets the ratio to the loop with as many keys\n")
  console.log(`| operator | ${keyCounts.map((keys) => `${keys.toLocaleString("en")} keys`).join(" | ")} |`)
  console.log(`| --- | ${keyCounts.map(() => "---:").join(" | ")} |`)
  return operators.map(({ name, thousands: size = 500 }) => {
    const rates = keyCounts.map((keys) => {
      const order = { records: Math.max(size * 1_000, 2 * keys), keys, runs }
      return beside(name, order, ["hand", "flow"]).map(({ perSecond }) => perSecond) as [hand: number, flow: number]
    })
    const cells = rates.map(([hand, flow]) => `${thousands(flow)} (${ratio(flow, hand)})`)
    console.log(`| ${name} | ${cells.join(" | ")} |`)
    const [tenth, most] = rates.slice(-2) as [(typeof rates)[0], (typeof rates)[0]]
    return { name, times: tenth[1] / most[1], byHand: tenth[0] / most[0] }
  })
}
