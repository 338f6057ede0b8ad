/**
 * The published Nexmark generator, drawn from a seed. Proportions, id ranges, what is hot, prices and times follow
 * `com.github.nexmark.flink.generator` of github.com/nexmark/nexmark (6b3646c), which goes back to Apache Beam's.
 *
 * Of 50 events one is a person, three are auctions and 46 are bids. Half of all bids are for the hot auction, the first of
 * the last hundred; three quarters are by the hot bidder, the second of the last hundred people; three quarters of all
 * auctions are by the hot seller, the first of them. The others go to the last 100 auctions and the last 1,000 people, and
 * to up to ten that do not exist yet. Bidders' ids begin at 1,000 as in Beam, not at 2,000, where Flink's version adds the
 * first id twice.
 */
import { Dice } from "../../../src/testing/index.ts"
import type { Auction, Bid, Event, Person } from "./Events.ts"

export interface Options {
  readonly seed: number
  readonly events: number
  /** Of event time; 10,000 unless given. */
  readonly perSecond?: number
  /**
   * Events come in groups of so many in another order, always the same one: they are out of order by less than the time that
   * a group takes. 1, in order, unless given; no multiple of 953.
   */
  readonly outOfOrder?: number
  /** Event time of the first event, in milliseconds since 1970; 2026-01-01T00:00:00Z unless given. */
  readonly from?: number
}

/** An event, and when it comes: the same as its own time where events are in order. */
export interface Emitted {
  readonly event: Event
  readonly arrival: number
}

const people = 1
const auctions = 3
const all = 50

const firstId = 1_000
const firstCategory = 10
const categories = 5
/** Ids that do not exist yet are at most so far ahead. */
const lead = 10
const activePeople = 1_000
const auctionsInFlight = 100
/** Every so many people or auctions there is another hot one. */
const hotEvery = 100

/** Bytes of an event as the generator counts them, on average. */
const size = { person: 200, auction: 500, bid: 100 }

const between = (text: string) => text.split(",")
const firstNames = between("Peter,Paul,Luke,John,Saul,Vicky,Kate,Julie,Sarah,Deiter,Walter")
const lastNames = between("Shultz,Abrams,Spencer,White,Bartels,Walton,Smith,Jones,Noris")
const cities = between("Phoenix,Los Angeles,San Francisco,Boise,Portland,Bend,Redmond,Seattle,Kent,Cheyenne")
const states = between("AZ,CA,ID,OR,WA,WY")
const hotChannels = between("Google,Facebook,Baidu,Apple")

/** How far the ids of people and auctions have come at an event, counted from 0; -1 before the first auction. */
const lastPerson = (n: number): number => Math.floor(n / all) * people + Math.min(n % all, people - 1)
const lastAuction = (n: number): number => {
  const within = Math.min(n % all - people, auctions - 1)
  return (Math.floor(n / all) - (within < 0 ? 1 : 0)) * auctions + (within < 0 ? auctions - 1 : within)
}

const hot = (last: number): number => Math.floor(last / hotEvery) * hotEvery

/** Events in the order in which they come. */
export function* generate(options: Options): Generator<Emitted> {
  const { seed, events, perSecond = 10_000, outOfOrder = 1, from = Date.parse("2026-01-01T00:00:00Z") } = options
  if (!(Number.isSafeInteger(outOfOrder) && outOfOrder >= 1 && outOfOrder % 953 !== 0)) {
    throw new RangeError(`outOfOrder is a whole number of at least 1 and no multiple of 953; it was ${outOfOrder}`)
  }
  const draw = new Draw(new Dice(seed))
  const timeOf = (n: number) => from + Math.floor(n * 1_000 / perSecond)
  for (let i = 0; i < events; i++) {
    const group = i - i % outOfOrder
    const n = group + i * 953 % outOfOrder
    yield { event: draw.event(n, timeOf(n), timeOf), arrival: timeOf(i) }
  }
}

const aToZ = "abcdefghijklmnopqrstuvwxyz"

class Draw {
  readonly #dice: Dice
  /** What padding is cut from. */
  readonly #text: string
  readonly #hotUrls: ReadonlyArray<string>
  readonly #urls: ReadonlyArray<string>

  constructor(dice: Dice) {
    this.#dice = dice
    this.#text = Array.from({ length: 65_536 }, () => aToZ[dice.int(0, 25)]).join("")
    this.#hotUrls = hotChannels.map(() => this.#url())
    this.#urls = Array.from({ length: 10_000 }, (_, i) => this.#url() + (dice.int(0, 9) > 0 ? `&channel_id=${i}` : ""))
  }

  event(n: number, dateTime: number, timeOf: (n: number) => number): Event {
    const kind = n % all
    if (kind < people) return this.#person(n, dateTime)
    return kind < people + auctions ? this.#auction(n, dateTime, timeOf) : this.#bid(n, dateTime)
  }

  #person(n: number, dateTime: number): Person {
    const dice = this.#dice
    const name = `${dice.pick(firstNames)} ${dice.pick(lastNames)}`
    const emailAddress = `${this.#string(7)}@${this.#string(5)}.com`
    const creditCard = Array.from({ length: 4 }, () => String(dice.int(0, 9_999)).padStart(4, "0")).join(" ")
    const [city, state] = [dice.pick(cities), dice.pick(states)]
    const used = 8 + name.length + emailAddress.length + creditCard.length + city.length + state.length
    const extra = this.#extra(size.person - used)
    return { kind: "person", id: firstId + lastPerson(n), name, emailAddress, creditCard, city, state, dateTime, extra }
  }

  #auction(n: number, dateTime: number, timeOf: (n: number) => number): Auction {
    const dice = this.#dice
    const seller = dice.int(0, 3) > 0 ? hot(lastPerson(n)) : this.#anyPerson(n)
    const initialBid = this.#price()
    const horizon = timeOf(n + Math.floor(auctionsInFlight * all / auctions)) - dateTime
    const itemName = this.#string(20)
    const description = this.#string(100)
    return {
      kind: "auction",
      id: firstId + lastAuction(n),
      itemName,
      description,
      initialBid,
      reserve: initialBid + this.#price(),
      dateTime,
      expires: dateTime + 1 + dice.int(0, Math.max(horizon * 2, 1) - 1),
      seller: firstId + seller,
      category: firstCategory + dice.int(0, categories - 1),
      extra: this.#extra(size.auction - 48 - itemName.length - description.length),
    }
  }

  #bid(n: number, dateTime: number): Bid {
    const dice = this.#dice
    const auction = dice.int(0, 1) > 0 ? hot(lastAuction(n)) : this.#anyAuction(n)
    const bidder = dice.int(0, 3) > 0 ? hot(lastPerson(n)) + 1 : this.#anyPerson(n)
    const channel = dice.int(0, 1) > 0 ? dice.int(0, hotChannels.length - 1) : -1
    const other = dice.int(0, this.#urls.length - 1)
    return {
      kind: "bid",
      auction: firstId + auction,
      bidder: firstId + bidder,
      price: this.#price(),
      channel: hotChannels[channel] ?? `channel-${other}`,
      url: this.#hotUrls[channel] ?? this.#urls[other]!,
      dateTime,
      extra: this.#extra(size.bid - 32),
    }
  }

  #anyPerson(n: number): number {
    const count = lastPerson(n) + 1
    const active = Math.min(count, activePeople)
    return count - active + this.#dice.int(0, active + lead - 1)
  }

  #anyAuction(n: number): number {
    const last = lastAuction(n)
    const first = Math.max(last - auctionsInFlight, 0)
    return first + this.#dice.int(0, last - first + lead)
  }

  /** From 1 to a million dollars, in cents: as many from 1 to 10 as from 10 to 100. */
  #price(): number {
    return Math.round(10 ** (this.#dice.next() * 6) * 100)
  }

  #string(longest: number): string {
    return this.#cut(this.#dice.int(3, longest - 1))
  }

  #url(): string {
    return `https://www.nexmark.com/${this.#cut(5)}/${this.#cut(5)}/${this.#cut(5)}/item.htm?query=1`
  }

  /** Padding up to a size, by up to a fifth more or less. */
  #extra(left: number): string {
    if (left <= 0) return ""
    const delta = Math.round(left / 5)
    return this.#cut(left - delta + (delta === 0 ? 0 : this.#dice.int(0, 2 * delta - 1)))
  }

  #cut(length: number): string {
    const at = this.#dice.int(0, this.#text.length - length)
    return this.#text.slice(at, at + length)
  }
}
