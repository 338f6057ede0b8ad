/**
 * Compares every message that was sent with every table and every topic. Knows the programs only by what they promise, and
 * reads the topics with Kafka's own client.
 */
import type postgres from "postgres"
import { eventTime, id, kind, minuteOf, nameOf, numberOf, type Run, user, userName } from "./Clicks.ts"
import type { Foreign, Record } from "./Foreign.ts"
import { answered, unsent } from "./Load.ts"

export interface Input {
  readonly run: Run
  /** What is known of each message. */
  readonly state: Uint8Array
  /** How often each was sent. */
  readonly times: Uint8Array
  /** How many records were written to the raw topic that are no messages. */
  readonly garbage: { readonly least: number; readonly most: number }
}

export interface Findings {
  /** Messages answered with 200 that are missing somewhere. */
  lost: number
  /** Messages that are somewhere more than once. */
  repeated: number
  /** Everything else that is not as it must be. */
  wrong: number
  /** Rows and records that were looked at. */
  readonly looked: Map<string, number>
  /** What was found, the first of each sort. */
  readonly examples: Array<string>
}

const mostExamples = 20

export class Checker {
  readonly findings: Findings = { lost: 0, repeated: 0, wrong: 0, looked: new Map(), examples: [] }
  readonly #input: Input
  readonly #foreign: Foreign
  readonly #sql: postgres.Sql
  readonly #last: number

  constructor(input: Input, foreign: Foreign, sql: postgres.Sql) {
    this.#input = input
    this.#foreign = foreign
    this.#sql = sql
    let last = input.state.length
    while (last > 0 && input.state[last - 1] === unsent) last--
    this.#last = last
  }

  async check(): Promise<Findings> {
    const raw = await this.#rawTopic()
    const stored = await this.#clicks()
    const enriched = await this.#enrichedTopic(raw)
    this.#same("the table clicks", stored, "user.clicks.enriched", enriched)
    const counts = this.#recount(stored)
    await this.#minutes(counts)
    await this.#sessions()
    await this.#identities(raw)
    await this.#refused()
    return this.findings
  }

  #find(sort: "lost" | "repeated" | "wrong", what: string): void {
    this.findings[sort]++
    if (this.findings.examples.length < mostExamples) this.findings.examples.push(`${sort}: ${what}`)
  }

  /** What of a sort must be there at least, and at most. */
  #expect(i: number, found: number, where: string): void {
    const name = id(this.#input.run, i)
    if (this.#input.state[i] === answered && found === 0) {
      this.#find("lost", `${name} (${kind(this.#input.run, i)}) is not in ${where}`)
    }
    if (found > 1) this.#find("repeated", `${name} (${kind(this.#input.run, i)}) is ${found} times in ${where}`)
  }

  #number(text: string, where: string): number {
    const i = numberOf(this.#input.run, text)
    if (i >= 0 && i < this.#last && this.#input.state[i] !== unsent) return i
    this.#find("wrong", `${JSON.stringify(text)} in ${where} was never sent`)
    return -1
  }

  /** The place of each message in the raw topic: that of its first copy. */
  async #rawTopic(): Promise<Float64Array> {
    const place = new Float64Array(this.#last).fill(-1)
    let records = 0
    await this.#foreign.read("user.clicks.raw", ["messageId"], ({ offset, values: [name = ""] }) => {
      records++
      if (name === "") return
      const i = this.#number(name, "user.clicks.raw")
      if (i >= 0 && place[i]! < 0) place[i] = offset
    })
    this.findings.looked.set("records of user.clicks.raw", records)
    for (let i = 0; i < this.#last; i++) {
      if (kind(this.#input.run, i) === "refused") continue
      if (this.#input.state[i] === answered && place[i]! < 0) {
        this.#find("lost", `${id(this.#input.run, i)} is not in user.clicks.raw`)
      }
    }
    return place
  }

  #isClick(i: number): boolean {
    const what = kind(this.#input.run, i)
    return what === "click" || what === "too old to count"
  }

  async #clicks(): Promise<Uint8Array> {
    const { run } = this.#input
    const found = new Uint8Array(this.#last)
    let rows = 0
    const query = this.#sql<Array<{ event_id: string; user: string; time: string; name: string }>>`
      select event_id, "user", (extract(epoch from event_time) * 1000)::bigint as time, name from clicks`
    await query.cursor(20_000, (some) => {
      for (const { event_id, user: who, time, name } of some) {
        rows++
        const i = this.#number(event_id, "the table clicks")
        if (i < 0) continue
        found[i]!++
        if (!this.#isClick(i)) this.#find("wrong", `${event_id} (${kind(run, i)}) is in the table clicks`)
        if (who !== userName(user(run, i)) || Number(time) !== eventTime(run, i) || name !== nameOf(i)) {
          this.#find("wrong", `${event_id} is not in the table clicks as it was sent`)
        }
      }
    })
    this.findings.looked.set("rows of clicks", rows)
    for (let i = 0; i < this.#last; i++) if (this.#isClick(i)) this.#expect(i, found[i]!, "the table clicks")
    return found
  }

  /** Each once, and those of a user in the order that they came to raw in. */
  async #enrichedTopic(raw: Float64Array): Promise<Uint8Array> {
    const { run } = this.#input
    const found = new Uint8Array(this.#last)
    const lastOf = new Float64Array(run.lanes * run.usersPerLane).fill(-1)
    let records = 0
    await this.#foreign.read("user.clicks.enriched", ["eventId"], ({ partition, offset, values: [name = ""] }) => {
      records++
      const i = this.#number(name, "user.clicks.enriched")
      if (i < 0) return
      found[i]!++
      const who = user(run, i)
      if (raw[i]! < lastOf[who]!) {
        this.#find("wrong", `${name} at ${partition}/${offset} of user.clicks.enriched is out of order`)
      }
      lastOf[who] = Math.max(lastOf[who]!, raw[i]!)
    })
    this.findings.looked.set("records of user.clicks.enriched", records)
    for (let i = 0; i < this.#last; i++) if (this.#isClick(i)) this.#expect(i, found[i]!, "user.clicks.enriched")
    return found
  }

  #same(one: string, here: Uint8Array, other: string, there: Uint8Array): void {
    for (let i = 0; i < this.#last; i++) {
      if (here[i] !== there[i]) {
        this.#find("wrong", `${id(this.#input.run, i)} is ${here[i]} times in ${one}, ${there[i]} times in ${other}`)
      }
    }
  }

  /** Clicks by user and minute, from what was sent and is known to be taken. */
  #recount(stored: Uint8Array): Map<string, number> {
    const { run } = this.#input
    const counts = new Map<string, number>()
    for (let i = 0; i < this.#last; i++) {
      if (stored[i] === 0 || kind(run, i) !== "click") continue
      const key = `${userName(user(run, i))} ${minuteOf(eventTime(run, i))}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    return counts
  }

  async #minutes(expected: ReadonlyMap<string, number>): Promise<void> {
    const compare = (where: string, found: ReadonlyMap<string, number>) => {
      this.findings.looked.set(`counts in ${where}`, found.size)
      for (const [key, clicks] of found) {
        const right = expected.get(key) ?? 0
        if (clicks < right) {
          this.#find("lost", `${right - clicks} of ${right} clicks are not counted in ${where} for ${key}`)
        }
        if (clicks > right) this.#find("repeated", `${right} clicks are counted as ${clicks} in ${where} for ${key}`)
      }
      for (const key of expected.keys()) if (!found.has(key)) this.#find("lost", `${key} is not in ${where}`)
    }
    const table = new Map<string, number>()
    const query = this.#sql<Array<{ user: string; time: string; clicks: number }>>`
      select "user", (extract(epoch from minute) * 1000)::bigint as time, clicks from clicks_per_minute`
    await query.cursor(20_000, (some) => {
      for (const { user: who, time, clicks } of some) table.set(`${who} ${time}`, clicks)
    })
    compare("the table clicks_per_minute", table)
    const topic = new Map<string, number>()
    let records = 0
    await this.#foreign.read(
      "user.clicks.aggregates",
      ["user", "minute", "clicks"],
      ({ values: [who, minute, clicks] }) => {
        records++
        topic.set(`${who} ${minute}`, Number(clicks))
      },
    )
    compare("user.clicks.aggregates", topic)
    this.findings.looked.set("records of user.clicks.aggregates", records)
  }

  /** Every session is the sum of its clicks, and what the topic says last of it. Nobody was silent for so long as to have two. */
  async #sessions(): Promise<void> {
    const wrong = await this.#sql<Array<{ session_id: string }>>`
      select session_id from sessions s full join (
        select session_id, min(event_time) as first, max(event_time) as last, count(*)::int as n,
          count(distinct session_number)::int as numbers, max(session_number) as highest,
          min("user") as one_user, max("user") as other_user
        from clicks group by session_id
      ) c using (session_id)
      where s.session_id is null or c.session_id is null or s.started_at <> c.first or s.last_at <> c.last
        or s.clicks <> c.n or c.numbers <> c.n or c.highest <> c.n or s."user" <> c.one_user or s."user" <> c.other_user`
    for (const { session_id } of wrong) this.#find("wrong", `session ${session_id} is not the sum of its clicks`)
    const many = await this.#sql<Array<{ user: string }>>`
      select "user" from sessions group by 1 having count(*) > 1`
    for (const { user: who } of many) this.#find("wrong", `${who} has several sessions`)
    const rows = await this.#sql<Array<{ session_id: string; clicks: number; last: string }>>`
      select session_id, clicks, (extract(epoch from last_at) * 1000)::bigint as last from sessions`
    const table = new Map(rows.map(({ session_id, clicks, last }) => [session_id, `${clicks} ${last}`]))
    const topic = new Map<string, string>()
    await this.#foreign.read("user.sessions", ["id", "clicks", "last"], ({ values: [name = "", clicks, last] }) => {
      if (name !== "") topic.set(name, `${clicks} ${last}`)
    })
    this.findings.looked.set("sessions", rows.length)
    for (const name of new Set([...table.keys(), ...topic.keys()])) {
      if (table.get(name) !== topic.get(name)) {
        this.#find("wrong", `session ${name}: ${table.get(name)} in the table, ${topic.get(name)} in user.sessions`)
      }
    }
  }

  /** Of every user the last identify that came to raw. */
  async #identities(raw: Float64Array): Promise<void> {
    const { run } = this.#input
    const last = new Map<string, number>()
    for (let i = 0; i < this.#last; i++) {
      if (kind(run, i) !== "identify" || raw[i]! < 0) continue
      const who = `identify/${userName(user(run, i))}`
      const known = last.get(who)
      if (known === undefined || raw[known]! < raw[i]!) last.set(who, i)
    }
    const compare = (where: string, found: ReadonlyMap<string, string>) => {
      this.findings.looked.set(`identities in ${where}`, found.size)
      for (const who of new Set([...last.keys(), ...found.keys()])) {
        const right = last.get(who)
        if (right === undefined || found.get(who) !== id(run, right)) {
          this.#find(
            "wrong",
            `${who} is ${found.get(who)} in ${where}, not ${right === undefined ? "absent" : id(run, right)}`,
          )
        }
      }
    }
    const rows = await this.#sql<
      Array<{ identity: string; event_id: string }>
    >`select identity, event_id from identities`
    compare("the table identities", new Map(rows.map(({ identity, event_id }) => [identity, event_id])))
    const topic = new Map<string, string>()
    await this.#foreign.read(
      "user.identities",
      ["id", "eventId"],
      ({ values: [who = "", event = ""] }) => void topic.set(who, event),
    )
    compare("user.identities", topic)
  }

  /** Dead letters and late clicks: exactly those that had to be, in the topics and in the table. */
  async #refused(): Promise<void> {
    const { run, state, times, garbage } = this.#input
    const found = new Uint8Array(this.#last)
    const places = new Map<string, string>()
    let undecodable = 0
    const take = (topic: string, expected: (reason: string) => ReadonlyArray<string>) => (record: Record) => {
      const { partition, offset, reason, values: [message = "", event = ""] } = record
      places.set(`${topic} ${partition} ${offset}`, reason)
      if (reason === "DecodeError") return void undecodable++
      const i = this.#number(message === "" ? event : message, topic)
      if (i < 0) return
      found[i]!++
      if (!expected(reason).includes(kind(run, i))) {
        this.#find("wrong", `${id(run, i)} (${kind(run, i)}) is in ${topic} because of ${reason}`)
      }
    }
    const fields = ["messageId", "eventId"]
    await this.#foreign.read(
      "user.clicks.dlt",
      fields,
      take(
        "user.clicks.dlt",
        (reason) => reason === "InvalidMessage" ? ["refused"] : reason === "InvalidClick" ? ["invalid"] : [],
      ),
    )
    await this.#foreign.read(
      "user.clicks.late",
      fields,
      take("user.clicks.late", (reason) => reason === "Late" ? ["too old for a session", "too old to count"] : []),
    )
    for (let i = 0; i < this.#last; i++) {
      const what = kind(run, i)
      if (what === "refused") {
        // Nobody knows the collector's dead letters by an id: every time it was sent there may be one.
        if (state[i] === answered && found[i] === 0) this.#find("lost", `${id(run, i)} is not in user.clicks.dlt`)
        if (found[i]! > times[i]!) {
          this.#find("repeated", `${id(run, i)} is ${found[i]} times in user.clicks.dlt, sent ${times[i]} times`)
        }
      } else if (what !== "click" && what !== "identify") {
        this.#expect(i, found[i]!, "the topics of dead letters and late clicks")
      }
    }
    const { least, most } = garbage
    if (undecodable < least) this.#find("lost", `${least} records are no JSON, and ${undecodable} are dead letters`)
    if (undecodable > most) this.#find("repeated", `${most} records are no JSON, and ${undecodable} are dead letters`)
    this.findings.looked.set("dead letters and late clicks", places.size)
    const rows = await this.#sql<Array<{ topic: string; partition: number; offset: string; reason: string }>>`
      select topic, partition, "offset", reason from dead_letters`
    const table = new Map(rows.map((row) => [`${row.topic} ${row.partition} ${row.offset}`, row.reason]))
    if (table.size < rows.length) {
      this.#find("repeated", `${rows.length - table.size} dead letters are in their table twice`)
    }
    for (const place of new Set([...places.keys(), ...table.keys()])) {
      if (places.get(place) !== table.get(place)) {
        this.#find(
          table.has(place) ? "wrong" : "lost",
          `dead letter ${place}: ${table.get(place)} in the table, ${places.get(place)} in the topic`,
        )
      }
    }
  }
}
