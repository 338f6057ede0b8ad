/** The program that shows commands and events, with Kafka in memory: one command, and what it prints. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { orderTopics } from "../../schemas/orders/index.ts"
import * as Traffic from "../../src/orders/Traffic.ts"
import * as Metrics from "../support/Metrics.ts"
import { type ByHand, byHand } from "../support/OrdersByHand.ts"
import * as Ports from "../support/Ports.ts"
import * as Program from "../support/Program.ts"

/** What must come of so many commands of a seed. */
const expected = (seed: number, count: number) =>
  Effect.gen(function* () {
    const next = yield* Traffic.records(orderTopics(), seed)
    const records = yield* Effect.all(Array.from({ length: count }, () => next))
    return byHand(records.map(({ value }) => ({ value: String(value) })))
  }).pipe(Random.withSeed(seed))

const summaryOf = (seed: number, { accepted, repeated, rejected, damaged, averages }: ByHand): string => {
  const refused = Object.values(rejected).reduce((sum, n) => sum + n, 0)
  const why = Object.entries(rejected).map(([reason, n]) => `${reason} ${n}`).sort().join(", ")
  const cents = (n: number) => (n / 100).toFixed(2)
  const rows = [...averages].sort(([a], [b]) => a < b ? -1 : 1).flatMap(([user, ofUser]) =>
    ofUser.map(({ currency, payments, total, average }) =>
      `${user} ${currency} ${payments} ${cents(total)} ${cents(average)}`
    )
  )
  return [
    `${accepted + repeated + refused + damaged} commands of seed ${seed}: ${accepted} accepted, ${repeated} of those ` +
    `again, ${refused} rejected (${why}), ${damaged} damaged`,
    "",
    "user currency payments total average",
    ...rows,
    "",
  ].join("\n")
}

const withoutColumns = (output: string) => output.replaceAll(/ {2,}/g, " ")

describe("orders, embedded", () => {
  it.live("prints the averages of the commands it was told to send, and ends", () =>
    Effect.gen(function* () {
      const { ended } = yield* Program.start("orders", { args: ["--commands", "1200", "--seed", "17"] })
      const { code, output } = yield* ended
      assert.strictEqual(code, 0, output)
      assert.strictEqual(withoutColumns(output), summaryOf(17, yield* expected(17, 1_200)))
    }), 60_000)

  it.live("runs without end, and finishes what is at hand when it is told to stop", () =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(Ports.free)
      const program = yield* Program.start("orders", {
        args: ["--seed", "5", "--rate", "400"],
        env: { METRICS_PORT: String(port) },
      })
      yield* Metrics.untilRead(port, "orders.commands", 200)
      assert.isNull(program.process.exitCode, program.output())
      yield* program.signal("SIGTERM")
      const { code, output } = yield* program.ended
      assert.strictEqual(code, 0, output)
      const [, count] = /^(\d+) commands of seed 5/.exec(output)!
      assert.isAbove(Number(count), 200)
      assert.strictEqual(withoutColumns(output), summaryOf(5, yield* expected(5, Number(count))))
    }), 60_000)

  it.live("says how it is used", () =>
    Effect.gen(function* () {
      for (const args of [["--commands", "none"], ["--rate", "0"], ["--sed", "1"]]) {
        const { code, output } = yield* (yield* Program.start("orders", { args })).ended
        assert.strictEqual(code, 2)
        assert.match(output, /^usage: orders/)
      }
    }), 60_000)
})
