import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import type { OrderCommand } from "../../schemas/orders/Commands.ts"
import { Decider } from "../../src/index.ts"
import { order, OrderRejected } from "../../src/orders/Order.ts"

const address = { name: "Ann", street: "Mill Lane 1", postcode: "69001", city: "Lyon", country: "FR" }
const pens = [{ article: "pen", quantity: 3, price: 149 }]
const ink = [{ article: "ink", quantity: 1, price: 895 }]

let count = 0
const about = () => ({ orderId: "o", commandId: `c${++count}`, at: count })
const place = (lines = pens): OrderCommand => (
  { type: "PlaceOrder", ...about(), userId: "ann", currency: "EUR", lines, address }
)
const lines = (lines: typeof pens): OrderCommand => ({ type: "ChangeLines", ...about(), lines })
const move = (): OrderCommand => ({ type: "ChangeAddress", ...about(), address: { ...address, city: "Porto" } })
const pay = (amount: number, currency = "EUR"): OrderCommand => (
  { type: "AuthorizePayment", ...about(), paymentId: "p", amount, currency }
)
const cancel = (): OrderCommand => ({ type: "CancelOrder", ...about() })

/** What becomes of each command: the types of its events, or the reason why not. */
const answers = (...commands: ReadonlyArray<OrderCommand>) =>
  Decider.run(order, commands).map(({ result }) =>
    Result.isFailure(result) ? result.failure.reason : result.success.map(({ event }) => event.type).join()
  )

describe("an order", () => {
  it("is placed, changed and paid", () => {
    const commands = [place(), lines(ink), move(), pay(895)]
    assert.deepStrictEqual(answers(...commands), ["OrderPlaced", "LinesChanged", "AddressChanged", "PaymentAuthorized"])
    const paid = Decider.run(order, commands).at(-1)!
    assert.deepStrictEqual(Result.getOrThrow(paid.result), [{
      key: "o",
      version: 4,
      commandId: commands[3]!.commandId,
      event: {
        type: "PaymentAuthorized",
        paymentId: "p",
        userId: "ann",
        amount: 895,
        currency: "EUR",
        at: commands[3]!.at,
      },
    }])
  })

  it("is paid with what it costs, in its currency", () => {
    assert.deepStrictEqual(answers(place(), pay(446), pay(447, "USD"), lines(ink), pay(447), pay(895)), [
      "OrderPlaced",
      "WrongAmount",
      "WrongCurrency",
      "LinesChanged",
      "WrongAmount",
      "PaymentAuthorized",
    ])
  })

  it("stays as it is once it is paid", () => {
    assert.deepStrictEqual(answers(place(), pay(447), move(), lines(ink), pay(447), cancel(), place()), [
      "OrderPlaced",
      "PaymentAuthorized",
      "AlreadyPaid",
      "AlreadyPaid",
      "AlreadyPaid",
      "AlreadyPaid",
      "AlreadyPlaced",
    ])
  })

  it("stays cancelled, and is cancelled again without an event", () => {
    assert.deepStrictEqual(answers(place(), cancel(), cancel(), pay(447), move(), lines(ink), place()), [
      "OrderPlaced",
      "OrderCancelled",
      "",
      "Cancelled",
      "Cancelled",
      "Cancelled",
      "AlreadyPlaced",
    ])
  })

  it("has to be placed, with something to pay for", () => {
    const free = [{ article: "sample", quantity: 2, price: 0 }]
    assert.deepStrictEqual(answers(move(), pay(1), cancel(), lines(ink), place([]), place(free), place(), lines([])), [
      "UnknownOrder",
      "UnknownOrder",
      "UnknownOrder",
      "UnknownOrder",
      "EmptyOrder",
      "EmptyOrder",
      "OrderPlaced",
      "EmptyOrder",
    ])
  })

  it("says what is wrong to whoever has asked, without personal data", () => {
    const command = pay(1)
    const { result } = Decider.run(order, [place(), command])[1]!
    const rejected = Result.isFailure(result) ? result.failure : undefined
    assert.instanceOf(rejected, OrderRejected)
    assert.deepInclude(rejected, {
      orderId: "o",
      commandId: command.commandId,
      message: "this is not what the order costs",
    })
  })
})
