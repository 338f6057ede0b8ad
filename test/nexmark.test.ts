/**
 * Nexmark's queries come to what their batch computations say: in memory, cut anywhere, and as programs on a cluster in
 * memory that come, go and die while events come in.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Event, Events, Refused } from "../scripts/bench/nexmark/Events.ts"
import { type Emitted, generate } from "../scripts/bench/nexmark/Generator.ts"
import * as InMemory from "../scripts/bench/nexmark/InMemory.ts"
import { queries } from "../scripts/bench/nexmark/Queries.ts"
import { difference, type Query, type Row } from "../scripts/bench/nexmark/Query.ts"
import { logOf, rowsOf } from "../scripts/bench/nexmark/Run.ts"
import { type Pipeline, Topology } from "../src/index.ts"
import { atRandom, type Driver } from "../src/testing/index.ts"
import { forSeeds } from "./support/Seeds.ts"

/** 40 seconds of events, which are out of order by up to three; auctions come up to four after the first bid for them. */
const slow = { events: 2_000, perSecond: 50 }
const outOfOrder = 149

const countOf = (events: ReadonlyArray<Event>, kind: Event["kind"]) =>
  events.filter((event) => event.kind === kind).length

describe("the generator", () => {
  const input = Array.from(generate({ seed: 1, events: 50_000 }))
  const events = input.map(({ event }) => event)

  it("draws the same from a seed, and something else from another", () => {
    assert.deepStrictEqual(Array.from(generate({ seed: 1, events: 1_000 })), input.slice(0, 1_000))
    assert.notDeepEqual(Array.from(generate({ seed: 2, events: 1_000 })), input.slice(0, 1_000))
  })

  it("keeps the proportions: 1 person, 3 auctions and 46 bids of 50 events", () => {
    for (let from = 0; from < events.length; from += 50) {
      const some = events.slice(from, from + 50)
      assert.deepStrictEqual((["person", "auction", "bid"] as const).map((kind) => countOf(some, kind)), [1, 3, 46])
    }
  })

  it("numbers people and auctions from 1000 on, without gaps", () => {
    const ids = (kind: "person" | "auction") => events.flatMap((event) => event.kind === kind ? [event.id] : [])
    assert.deepStrictEqual(ids("person"), Array.from({ length: 1_000 }, (_, i) => 1_000 + i))
    assert.deepStrictEqual(ids("auction"), Array.from({ length: 3_000 }, (_, i) => 1_000 + i))
  })

  it("prefers hot auctions, bidders and sellers, and takes the others from near the last", () => {
    let [people, auctions] = [999, 999]
    const counts = { auction: 0, bidder: 0, seller: 0 }
    const isNear = (id: number, last: number, back: number) => assert.isTrue(id >= last - back && id <= last + 10)
    for (const event of events) {
      if (event.kind === "person") people = event.id
      else if (event.kind === "auction") {
        auctions = event.id
        if (event.seller === people - people % 100) counts.seller++
        else isNear(event.seller, people, 1_000)
        assert.isTrue(event.category >= 10 && event.category < 15)
        assert.isAbove(event.expires, event.dateTime)
        assert.isAbove(event.reserve, event.initialBid)
      } else {
        if (event.auction === auctions - auctions % 100) counts.auction++
        else isNear(event.auction, auctions, 100)
        if (event.bidder === people - people % 100 + 1) counts.bidder++
        else isNear(event.bidder, people, 1_000)
      }
    }
    assert.approximately(counts.auction / countOf(events, "bid"), 0.5, 0.02)
    assert.approximately(counts.bidder / countOf(events, "bid"), 0.75, 0.02)
    assert.approximately(counts.seller / countOf(events, "auction"), 0.75, 0.03)
  })

  it("draws prices by their logarithm, from 1 to a million dollars", () => {
    const prices = events.flatMap((event) => event.kind === "bid" ? [event.price] : [])
    for (let digits = 0; digits < 6; digits++) {
      const within = prices.filter((price) => price >= 10 ** (digits + 2) && price < 10 ** (digits + 3))
      assert.approximately(within.length / prices.length, 1 / 6, 0.01)
    }
  })

  it("spaces events evenly, and puts them out of order by less than a group", () => {
    const first = Date.parse("2026-01-01T00:00:00Z")
    assert.isTrue(input.every(({ event }, i) => event.dateTime === first + Math.floor(i / 10)))
    assert.isTrue(input.every(({ event, arrival }) => event.dateTime === arrival))
    const mixed = Array.from(generate({ seed: 1, events: 10_000, outOfOrder: 500 }))
    const behind = mixed.map(({ event, arrival }) => arrival - event.dateTime)
    assert.isTrue(behind.some((ms) => ms > 40) && behind.every((ms) => Math.abs(ms) < 50))
    assert.deepStrictEqual(
      mixed.map(({ event }) => event.dateTime).sort((a, b) => a - b),
      input.slice(0, 10_000).map(({ event }) => event.dateTime),
    )
    assert.throws(() => generate({ seed: 1, events: 1, outOfOrder: 1_906 }).next(), RangeError)
  })
})

const equal = (query: Query, rows: ReadonlyArray<Row>, input: ReadonlyArray<Emitted>) => {
  assert.deepStrictEqual(difference(rows, query.batch(input)), [])
}

describe.each(queries)("$name, $title", (query) => {
  it.effect("equals its batch computation in memory, wherever its input is cut", () =>
    forSeeds(3, (dice, seed) =>
      Effect.gen(function* () {
        const input = Array.from(generate({ ...slow, seed, outOfOrder: seed % 2 === 0 ? outOfOrder : 1 }))
        const logs: InMemory.Logs = new Map([[Events.name, logOf(input)]])
        const longest = dice.pick([1, 10, 100, 1_000])
        yield* InMemory.run(query.pipeline, logs, { cut: () => dice.int(1, longest), commitEvery: dice.int(1, 10) })
        assert.strictEqual(logs.get(Refused.name)?.length ?? 0, 0)
        equal(query, rowsOf(query, logs.get(query.results.name)), input)
      })))

  it.effect("equals its batch computation while programs come, go and die", () =>
    atRandom(
      { pipelines: pipelineOf(query), runs: isStateless(query) ? 1 : 2 },
      (driver, dice) =>
        Effect.gen(function* () {
          const order = dice.pick([1, outOfOrder])
          const emitted = Array.from(generate({ ...slow, seed: dice.int(1, 1e9), outOfOrder: order }))
          const cut = dice.int(1, emitted.length - 1)
          yield* driver.feed(Events, emitted.slice(0, cut).map(({ event }) => event))
          yield* driver.crash
          yield* driver.advance("7 seconds")
          yield* driver.feed(Events, emitted.slice(cut).map(({ event }) => event))
          yield* committed(query, driver)
        }),
    ))
})

const isStateless = ({ pipeline }: Query) => Topology.of(pipeline.flow).stores.length === 0

const pipelineOf = ({ pipeline }: Query) => pipeline as Pipeline.Pipeline<unknown, never>

/** What is committed when input has been silent for so long that all windows have closed. */
const committed = Effect.fnUntraced(function* (query: Query, driver: Driver.Driver) {
  yield* driver.settle
  yield* driver.advance("8 minutes")
  yield* driver.settle
  assert.deepStrictEqual(yield* driver.letters(Refused), [])
  // Events happen in the order of their arrival to a query that goes by the clock: as the broker has stamped them.
  const input = (yield* driver.read(Events)).map(({ value, timestamp }) => ({ event: value!, arrival: timestamp }))
  const rows = query.keep === "all"
    ? yield* driver.values(query.results)
    : [...(yield* driver.latest(query.results)).values()]
  equal(query, rows as ReadonlyArray<Row>, input)
})

it.each(queries)("$name has results", (query) => {
  assert.isAbove(query.batch(Array.from(generate({ ...slow, seed: 1 }))).length, 0)
})

describe("equal ones", () => {
  const start = Date.parse("2026-01-01T00:00:00Z")
  const bid = (auction: number, price: number, second: number): Emitted => {
    const dateTime = start + second * 1_000
    const event = { kind: "bid", auction, bidder: 1, price, channel: "", url: "", dateTime, extra: "" } as const
    return { event, arrival: dateTime }
  }
  const rows = Effect.fnUntraced(function* (name: string, input: ReadonlyArray<Emitted>) {
    const query = queries.find((query) => query.name === name)!
    const logs: InMemory.Logs = new Map([[Events.name, logOf(input)]])
    yield* InMemory.run(query.pipeline, logs)
    const found = rowsOf(query, logs.get(query.results.name))
    equal(query, found, input)
    return found
  })

  it.effect("all auctions with the most bids are hot", () =>
    Effect.gen(function* () {
      const found = yield* rows("q5", [bid(1, 5, 1), bid(2, 5, 3)])
      assert.deepStrictEqual(found.map(({ auction }) => auction), [1, 1, 2, 1, 2, 1, 2, 1, 2, 2])
    }))

  it.effect("all bids of the highest price are the highest", () =>
    Effect.gen(function* () {
      const found = yield* rows("q7", [bid(1, 5, 1), bid(2, 7, 3), bid(3, 6, 4), bid(4, 7, 9), bid(5, 1, 10)])
      assert.deepStrictEqual(found.map(({ auction }) => auction), [2, 4, 5])
    }))

  it.effect("of bids of one time the highest is the last", () =>
    Effect.gen(function* () {
      const found = yield* rows("q18", [bid(1, 5, 1), bid(1, 7, 1), bid(1, 6, 1), bid(2, 9, 1), bid(2, 3, 2)])
      assert.deepStrictEqual(found.map(({ auction, price }) => [auction, price]), [[1, 7], [2, 3]])
    }))
})

it("a difference is seen, whatever the order of rows", () => {
  const [a, b] = [{ x: 1, y: 2 }, { x: 2, y: 1 }]
  assert.deepStrictEqual(difference([b, { y: 2, x: 1 }], [a, b]), [])
  assert.deepStrictEqual(difference([a, a], [a, b]), [`1 missing: {"x":2,"y":1}`, `1 too many: {"x":1,"y":2}`])
})
