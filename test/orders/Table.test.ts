import { assert, describe, it } from "@effect/vitest"
import { table } from "../../src/orders/Table.ts"

describe("the table of averages", () => {
  it("sorts users, and writes amounts as their currency does", () => {
    const of = (currency: string, total: number, average = total) => ({ currency, payments: 1, total, average })
    assert.deepStrictEqual(
      table([
        { userId: "ben", averages: [of("EUR", 100_005)] },
        { userId: "ann", averages: [of("JPY", 1_200), of("KWD", 1_234, 5)] },
      ]).split("\n"),
      [
        "user  currency  payments    total  average",
        "ann   JPY              1     1200     1200",
        "ann   KWD              1    1.234    0.005",
        "ben   EUR              1  1000.05  1000.05",
      ],
    )
  })

  it("has a head where nobody has paid", () => {
    assert.strictEqual(table([]), "user  currency  payments  total  average")
  })
})
