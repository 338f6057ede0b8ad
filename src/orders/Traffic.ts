/** Random commands of a small shop: sensible ones, ones that the rules forbid, repeats, and a few that are damaged. */
import { Buffer } from "node:buffer"
import { Clock, Effect, Random, Result } from "effect"
import type { OrderCommand } from "../../schemas/orders/Commands.ts"
import type { Line } from "../../schemas/orders/Fields.ts"
import type { OrderTopics } from "../../schemas/orders/index.ts"
import { Producer } from "../index.ts"

const users = ["ann", "ben", "cho", "dee", "eva", "fay", "gil", "hal", "ida", "jon", "kim", "leo"]
const cities = ["Lyon", "Porto", "Turku", "Graz", "Ghent"]
const articles: ReadonlyArray<readonly [name: string, price: number]> = [
  ["pen", 149],
  ["ink", 895],
  ["paper", 1_250],
  ["lamp", 4_999],
  ["chair", 18_900],
]

/** An order as whoever sends commands knows it. */
interface Open {
  readonly orderId: string
  readonly currency: string
  total: number
}

type About = Pick<OrderCommand, "commandId" | "at">

const below = (n: number) => Random.nextIntBetween(0, n, { halfOpen: true })
const pick = <A>(of: ReadonlyArray<A>) => Effect.map(below(of.length), (i) => of[i]!)

const lines = Effect.gen(function* () {
  const some: Array<Line> = []
  for (let left = 1 + (yield* below(3)); left > 0; left--) {
    const [article, price] = yield* pick(articles)
    some.push({ article, quantity: 1 + (yield* below(4)), price })
  }
  return some
})

const totalOf = (lines: ReadonlyArray<Line>) => lines.reduce((sum, { quantity, price }) => sum + quantity * price, 0)

const address = Effect.gen(function* () {
  const city = yield* pick(cities)
  return {
    name: yield* pick(users),
    street: `Mill Lane ${1 + (yield* below(99))}`,
    postcode: "1000",
    city,
    country: "FR",
  }
})

/** How many commands are remembered, to be sent again and to go on from. */
const latest = 60

/**
 * Commands without end, the same for the same `seed`, but for the time in them; ids begin with the seed. Of a hundred about
 * ten are repeats, twenty are rejected and one is no command at all.
 */
const commands = Effect.fnUntraced(function* (seed: number) {
  const orders: Array<Open> = []
  const sent: Array<OrderCommand> = []
  let count = 0

  const place = Effect.fnUntraced(function* (about: About): Effect.fn.Return<OrderCommand> {
    const order = { orderId: `${seed}-${count}`, currency: yield* pick(["EUR", "EUR", "USD"]) }
    const ordered = (yield* below(40)) === 0 ? [] : yield* lines
    orders.push({ ...order, total: totalOf(ordered) })
    if (orders.length > latest) orders.shift()
    const userId = yield* pick(users)
    return { type: "PlaceOrder", ...about, ...order, userId, lines: ordered, address: yield* address }
  })

  const change = Effect.fnUntraced(function* (order: Open, about: About): Effect.fn.Return<OrderCommand> {
    const { orderId } = order
    if ((yield* below(2)) === 0) return { type: "ChangeAddress", ...about, orderId, address: yield* address }
    const ordered = yield* lines
    order.total = totalOf(ordered)
    return { type: "ChangeLines", ...about, orderId, lines: ordered }
  })

  const pay = Effect.fnUntraced(function* (order: Open, about: About): Effect.fn.Return<OrderCommand> {
    const wrong = yield* below(12)
    const paymentId = `payment-${about.commandId}`
    const amount = order.total + (wrong === 0 ? 1 : 0)
    const currency = wrong === 1 ? "GBP" : order.currency
    return { type: "AuthorizePayment", ...about, orderId: order.orderId, paymentId, amount, currency }
  })

  const fresh = Effect.gen(function* (): Effect.fn.Return<OrderCommand> {
    const about = { commandId: `${seed}-${count}`, at: yield* Clock.currentTimeMillis }
    const what = yield* below(100)
    if (orders.length === 0 || what < 35) return yield* place(about)
    const order = yield* pick(orders)
    if (what < 55) return yield* change(order, about)
    if (what < 90) return yield* pay(order, about)
    return { type: "CancelOrder", ...about, orderId: what < 97 ? order.orderId : `${seed}-nobody-${count}` }
  })

  return Effect.gen(function* () {
    count++
    if (sent.length > 0 && (yield* below(10)) === 0) return yield* pick(sent)
    const command = yield* fresh
    sent.push(command)
    if (sent.length > latest) sent.shift()
    return command
  })
})

/** Records of `orders.commands`, without end: see `commands`. Drawn from the `Random` of whoever asks. */
export const records = Effect.fnUntraced(function* ({ commands: topic }: OrderTopics, seed: number) {
  const next = yield* commands(seed)
  return Effect.gen(function* (): Effect.fn.Return<Producer.ProducerRecord> {
    const command = yield* next
    const key = Buffer.from(topic.keyOf(command)!)
    const value = Result.getOrThrow(topic.encode(command))
    return { topic: topic.name, key, value: (yield* below(100)) === 0 ? value.subarray(1) : value }
  })
})

export interface Options {
  readonly to: OrderTopics
  readonly seed: number
  /** How many; without end unless given. */
  readonly count: number | undefined
  /** How many per second; as fast as the brokers take them unless given. */
  readonly rate: number | undefined
}

/** Sends commands, and ends when all are acknowledged. */
export const send = Effect.fn("Traffic.send")(function* (
  { to, seed, count = Infinity, rate }: Options,
): Effect.fn.Return<void, Producer.ProducerError, Producer.Producer> {
  const { send } = yield* Producer.Producer
  const each = rate === undefined ? 200 : Math.max(1, Math.ceil(rate / 10))
  const random = yield* Random.Random.pipe(Random.withSeed(seed))
  const next = yield* records(to, seed)
  const take = Effect.provideService(Effect.all(Array.from({ length: each }, () => next)), Random.Random, random)
  for (let sent = 0; sent < count; sent += each) {
    const some = yield* take
    yield* send(some.slice(0, count - sent))
    if (rate !== undefined) yield* Effect.sleep(1_000 * each / rate)
  }
})
