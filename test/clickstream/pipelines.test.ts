/** The clickstream's pipelines on Kafka in memory: what comes in as messages, and what stands in every topic afterwards. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { topics } from "../../schemas/index.ts"
import type { EnrichedClick } from "../../schemas/EnrichedClicks.ts"
import { count } from "../../src/clickstream/Count.ts"
import { enrich } from "../../src/clickstream/Enrich.ts"
import { Degrade, Failures, type Topic } from "../../src/index.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { Driver } from "../../src/testing/index.ts"

const start = Date.parse("2026-05-17T10:00:00Z")
const at = (minutes: number) => new Date(start + minutes * 60_000).toISOString()

type Message = Readonly<Record<string, unknown>>

const track = (messageId: string, minutes: number, rest: Message = {}): Message => ({
  type: "track",
  event: "Clicked",
  messageId,
  anonymousId: "a",
  timestamp: at(minutes),
  receivedAt: at(10_000),
  source: "web",
  ...rest,
})

interface Out {
  readonly partition: number
  readonly key: string | null
  readonly value: string
  readonly headers: Readonly<Record<string, string>>
}

/** Runs both pipelines over messages, and answers what stands in the topics when nothing more comes. */
const through = (messages: ReadonlyArray<Message | string>, keyBy: "user" | "visitor" = "user") => {
  const naming = { prefix: "", keyBy }
  const to = topics(naming)
  const pipelines = [enrich(naming, { repeats: {}, sessions: {} }), count(naming, { grace: "10 minutes" })] as const
  const key = (message: Message | string) => {
    const { userId, anonymousId } = typeof message === "string" ? { userId: "x", anonymousId: "x" } : message
    return String(keyBy === "user" ? userId ?? anonymousId : anonymousId ?? userId)
  }
  return Driver.run({ pipelines, now: start }, (driver) =>
    Effect.gen(function* () {
      yield* driver.feedBytes(
        to.raw,
        messages.map((message) => ({
          key: key(message),
          value: typeof message === "string" ? message : JSON.stringify(message),
        })),
      )
      yield* driver.settle
      const read = (topic: Topic.Any) =>
        Effect.map(driver.readBytes(topic), (found) =>
          found.map(({ partition, key, value, headers }): Out => ({
            partition,
            key: key && String(key),
            value: value === null ? "" : String(value),
            headers: Object.fromEntries(headers.map(([name, bytes]) => [name, String(bytes)])),
          })))
      return {
        enriched: (yield* read(to.enriched)).map(({ value, ...rest }) => ({
          ...rest,
          click: JSON.parse(value) as EnrichedClick,
        })),
        sessions: yield* read(to.sessions),
        identities: yield* read(to.identities),
        counts: yield* read(to.counts),
        dlt: yield* read(to.dlt),
        late: yield* read(to.late),
      }
    })).pipe(Effect.provideService(Failures.Program, { name: "test", version: "1.2.3" }))
}

const last = (records: ReadonlyArray<Out>) => new Map(records.map(({ key, value }) => [key, JSON.parse(value)]))

describe("enrich and count", () => {
  it.effect("take every click once, in its session and its minute", () =>
    Effect.gen(function* () {
      const { enriched, sessions, counts, dlt, late } = yield* through([
        track("1", 0),
        track("2", 0.5),
        track("1", 0),
        track("3", 29),
        track("4", 60),
      ])
      assert.deepStrictEqual(enriched.map(({ click }) => [click.eventId, click.session.number]), [
        ["1", 1],
        ["2", 2],
        ["3", 3],
        ["4", 1],
      ])
      assert.strictEqual(new Set(enriched.map(({ click }) => click.session.id)).size, 2)
      assert.sameDeepMembers([...last(sessions).values()].map(({ clicks, user }) => [clicks, user]), [[3, "a"], [
        1,
        "a",
      ]])
      assert.sameDeepMembers(
        [...last(counts).values()].map(({ minute, clicks, final }) => [minute, clicks, final]),
        [[start, 2, true], [start + 29 * 60_000, 1, true], [start + 60 * 60_000, 1, false]],
      )
      assert.deepStrictEqual([dlt, late], [[], []])
    }))

  it.effect("send what cannot be a click to the dead letters, as it came, with reason and origin", () =>
    Effect.gen(function* () {
      const bad = [
        "{",
        track("2", 0, { anonymousId: null }),
        track("3", 0, { context: { page: { url: "nowhere" } } }),
        track("4", 0, { timestamp: "1960-01-01T00:00:00Z" }),
      ]
      const { enriched, dlt } = yield* through([track("1", 0), ...bad, track("5", 0)])
      assert.deepStrictEqual(enriched.map(({ click }) => click.eventId), ["1", "5"])
      const wanted = bad.map((one) => typeof one === "string" ? one : JSON.stringify(one))
      assert.sameMembers(dlt.map(({ value }) => value), wanted)
      const reasons = dlt.map(({ headers }) => `${headers["millrace-reason"]} ${headers["millrace-field"]}`)
      assert.sameMembers(reasons, [
        "DecodeError ",
        "DecodeError userId",
        "InvalidClick context.page.url",
        "DecodeError event time",
      ])
      for (const { headers } of dlt) {
        assert.deepInclude(headers, {
          "kafka_dlt-original-topic": "user.clicks.raw",
          "millrace-program": "test",
          "millrace-version": "1.2.3",
        })
      }
    }))

  it.effect("send clicks that are too old for a session or a minute to the late topic", () =>
    Effect.gen(function* () {
      const { enriched, counts, late } = yield* through([
        track("1", 0),
        track("2", 300),
        track("too old for a session", 1),
        track("too old for its minute", 280),
      ])
      assert.deepStrictEqual(enriched.map(({ click }) => click.eventId), ["1", "2", "too old for its minute"])
      assert.deepStrictEqual(
        late.map((
          { headers, value },
        ) => [
          headers["kafka_dlt-original-topic"],
          (JSON.parse(value) as Message)["messageId"] ?? (JSON.parse(value) as Message)["eventId"],
        ])
          .toSorted(),
        [["user.clicks.enriched", "too old for its minute"], ["user.clicks.raw", "too old for a session"]],
      )
      for (const { headers } of late) assert.strictEqual(headers["millrace-reason"], "Late")
      assert.deepStrictEqual([...last(counts).values()].map(({ clicks }) => clicks), [1, 1])
    }))

  it.effect("keep what is said of people apart from clicks, the last of each", () =>
    Effect.gen(function* () {
      const identify = (messageId: string, plan: string): Message => ({
        ...track(messageId, 0, { userId: "u", traits: { plan } }),
        type: "identify",
      })
      const { enriched, identities, counts } = yield* through([
        identify("1", "free"),
        identify("2", "gold"),
        identify("1", "free"),
      ])
      assert.deepStrictEqual([enriched, counts], [[], []])
      assert.deepStrictEqual([...last(identities)].map(([key, { traits }]) => [key, traits]), [["identify/u", {
        plan: "gold",
      }]])
    }))

  it.effect("keyed by visitor, do not cut a session at a login, and count per user", () =>
    Effect.gen(function* () {
      const { enriched, counts } = yield* through([
        track("1", 0),
        track("2", 1, { userId: "u" }),
        track("3", 2, { userId: "u" }),
      ], "visitor")
      assert.strictEqual(new Set(enriched.map(({ click }) => click.session.id)).size, 1)
      assert.deepStrictEqual(
        Object.fromEntries(enriched.map(({ click, key, partition }) => [click.eventId, [key, partition]])),
        Object.fromEntries(
          [["1", "a"], ["2", "u"], ["3", "u"]].map(([id, user]) => [id, [user, forKey(Buffer.from(user!), 12)]]),
        ),
      )
      assert.deepStrictEqual([...last(counts).values()].map(({ user, clicks }) => `${user} ${clicks}`).toSorted(), [
        "a 1",
        "u 1",
        "u 1",
      ])
    }))

  it.effect("keyed by user, begin a session at a login", () =>
    Effect.gen(function* () {
      const { enriched } = yield* through([track("1", 0), track("2", 1, { userId: "u" })])
      assert.strictEqual(new Set(enriched.map(({ click }) => click.session.id)).size, 2)
    }))
})

describe("A partition that is behind", () => {
  it.effect("leaves devices out and says so, keeps sessions as they are, and stops when it has caught up", () => {
    const naming = { prefix: "", keyBy: "user" } as const
    const to = topics(naming)
    const devices = Degrade.policy({ name: "device", behind: { above: "1 minute" } })
    const pipelines = [enrich(naming, { repeats: {}, sessions: {}, devices })] as const
    const context = { userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0" }
    return Driver.run({ pipelines, now: start }, (driver) =>
      Effect.gen(function* () {
        const feed = (id: string, minutes: number, age: number) =>
          driver.feedBytes(to.raw, [{
            key: "a",
            value: JSON.stringify(track(id, minutes, { context })),
            timestamp: start - age,
          }])
        yield* feed("one", 0, 0)
        yield* driver.settle
        yield* feed("two", 1, 120_000)
        yield* driver.settle
        yield* feed("three", 2, 0)
        yield* driver.settle
        const clicks = (yield* driver.values(to.enriched)).map((click) => click!)
        assert.deepStrictEqual(clicks.map(({ browser, skipped, session }) => [browser, skipped, session.number]), [
          ["Firefox", undefined, 1],
          [null, "device", 2],
          ["Firefox", undefined, 3],
        ])
        assert.strictEqual(new Set(clicks.map(({ session }) => session.id)).size, 1)
      }))
  })
})
