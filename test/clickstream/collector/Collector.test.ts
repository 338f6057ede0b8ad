/** The collector over HTTP: what it answers, and what stands in the topics afterwards. */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Redacted } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createHash } from "node:crypto"
import { createServer, request } from "node:http"
import { connect, type Socket } from "node:net"
import { gzipSync } from "node:zlib"
import { topics } from "../../../schemas/index.ts"
import * as Collector from "../../../src/clickstream/collector/Collector.ts"
import { settings } from "../../../src/clickstream/collector/Settings.ts"
import { Admin, Faults, KafkaMemory, Producer, Settings } from "../../../src/index.ts"

interface Collecting {
  readonly url: string
  /** Values of the raw topic, decoded. */
  readonly raw: () => Promise<ReadonlyArray<Record<string, unknown>>>
  /** Headers and values of the dead-letter topic. */
  readonly dead: () => Promise<ReadonlyArray<{ readonly headers: Record<string, string>; readonly value: string }>>
  readonly use: (plan: Faults.Plan) => Promise<void>
  readonly records: () => Promise<ReadonlyArray<KafkaMemory.TopicRecord>>
}

/** A collector on a free port, over an in-memory cluster with faults. */
const collecting = (
  env: Readonly<Record<string, string>>,
  body: (collector: Collecting) => Promise<void>,
  naming?: Parameters<typeof topics>[0],
) =>
  Effect.gen(function* () {
    const values = yield* Effect.provideService(
      Settings.read(settings),
      ConfigProvider.ConfigProvider,
      ConfigProvider.fromUnknown({ WRITE_KEYS: "web:k1,app:k2", ...env }),
    )
    const to = topics(naming)
    const cluster = yield* Layer.build(Faults.layer.pipe(Layer.provideMerge(KafkaMemory.layer())))
    yield* Effect.provideContext(Admin.createTopics(Object.values(to)), cluster)
    const server = yield* Layer.build(
      HttpRouter.serve(Collector.routes({ settings: values, to, hashKey: Redacted.make("secret") }), {
        disableLogger: true,
        disableListenLog: true,
      }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
        Layer.provide(Producer.layer({ deliveryTimeout: values.answerTime, maxBlock: values.answerTime })),
        Layer.provide(Layer.succeedContext(cluster)),
      ),
    )
    const { address } = Context.get(server, HttpServer.HttpServer)
    const control = Context.get(cluster, KafkaMemory.Control)
    const read = (topic: string) => Effect.runPromise(control.records(topic))
    const faults = Context.get(cluster, Faults.Faults)
    yield* Effect.promise(() =>
      body({
        url: `http://127.0.0.1:${"port" in address ? address.port : 0}`,
        raw: async () => (await read(to.raw.name)).map(({ value }) => JSON.parse(String(Buffer.from(value!)))),
        dead: async () =>
          (await read(to.dlt.name)).map(({ headers, value }) => ({
            headers: Object.fromEntries(headers.map(([name, bytes]) => [name, String(Buffer.from(bytes))])),
            value: String(Buffer.from(value!)),
          })),
        use: (plan) => Effect.runPromise(faults.use(plan)),
        records: () => read(to.raw.name),
      })
    )
  }).pipe(Effect.scoped)

/** A connection whose request never ends: so many bytes of its body are sent. */
const unfinished = (url: string, bytes: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname, () => {
      socket.write(`POST /v1/t HTTP/1.1\r\nhost: x\r\nauthorization: ${basic}\r\ncontent-length: ${bytes + 1}\r\n\r\n`)
      socket.write("x".repeat(bytes), () => resolve(socket))
    }).once("error", reject)
  })

const basic = `Basic ${btoa("k1:")}`

const post = (
  url: string,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = {},
) => fetch(`${url}${path}`, { method: "POST", body, headers: { authorization: basic, ...headers } })

const track = { type: "track", event: "Bought", anonymousId: "a1", userId: null, messageId: "m1" }

describe("Collector", () => {
  it.live("takes single messages on long and short paths", () =>
    collecting({}, async ({ url, raw }) => {
      const paths = ["track", "t", "page", "p", "identify", "i", "screen", "s"]
      for (const path of paths) {
        const answer = await post(url, `/v1/${path}`, JSON.stringify({ ...track, type: undefined, messageId: path }))
        assert.strictEqual(answer.status, 200, path)
        assert.deepStrictEqual(await answer.json(), { success: true })
      }
      for (const path of ["group", "g"]) {
        assert.strictEqual(
          (await post(url, `/v1/${path}`, JSON.stringify({ ...track, messageId: path, groupId: "g" }))).status,
          200,
        )
      }
      for (const path of ["alias", "a"]) {
        const alias = { messageId: path, userId: "u", previousId: "a1" }
        assert.strictEqual((await post(url, `/v1/${path}`, JSON.stringify(alias))).status, 200)
      }
      const kinds = Object.fromEntries((await raw()).map(({ messageId, type }) => [messageId, type]))
      assert.deepInclude(kinds, {
        track: "track",
        t: "track",
        p: "page",
        i: "identify",
        s: "screen",
        g: "group",
        a: "alias",
      })
      assert.strictEqual((await raw()).length, 12)
    }))

  it.live("takes batches, and looks at the bytes instead of the content type", () =>
    collecting({}, async ({ url, raw }) => {
      const batch = (id: string) =>
        JSON.stringify({ batch: [{ ...track, messageId: id }], sentAt: "2026-05-17T10:00:00Z" })
      const answers = await Promise.all([
        post(url, "/v1/batch", batch("plain"), { "content-type": "text/plain" }),
        post(url, "/v1/b", batch("json"), { "content-type": "application/json" }),
        post(url, "/v1/batch", new Uint8Array(gzipSync(batch("gzip"))), {
          "content-type": "application/x-www-form-urlencoded",
        }),
        post(url, "/v1/batch", `\ufeff${batch("bom")}`),
      ])
      assert.deepStrictEqual(answers.map(({ status }) => status), [200, 200, 200, 200])
      const taken = await raw()
      assert.sameMembers(taken.map(({ messageId }) => messageId), ["plain", "json", "gzip", "bom"])
      for (const one of taken) assert.deepInclude(one, { sentAt: "2026-05-17T10:00:00Z", source: "web", userId: null })
    }))

  it.live("knows write keys from every place that trackers put them, and no others", () =>
    collecting({}, async ({ url, raw }) => {
      const send = (path: string, headers: Record<string, string>, extra = {}) =>
        fetch(`${url}${path}`, { method: "POST", body: JSON.stringify({ ...track, ...extra }), headers })
      assert.strictEqual((await send("/v1/t", { authorization: basic })).status, 200)
      assert.strictEqual((await send("/v1/t", { "x-write-key": "k2" })).status, 200)
      assert.strictEqual((await send("/v1/t?writeKey=k1", {})).status, 200)
      assert.strictEqual((await send("/v1/t", {}, { writeKey: "k2" })).status, 200)
      for (
        const headers of [{}, { "x-write-key": "nobody" }, { authorization: "Basic !!!" }, {
          authorization: "Bearer k1",
        }]
      ) {
        assert.strictEqual((await send("/v1/t", headers as Record<string, string>)).status, 401)
      }
      assert.deepStrictEqual((await raw()).map(({ source }) => source).toSorted(), ["app", "app", "web", "web"])
    }))

  it.live("lets one bad message cost nothing but itself", () =>
    collecting({}, async ({ url, raw, dead }) => {
      const batch = [
        { ...track, messageId: "good 1" },
        { ...track, messageId: "no event", event: undefined },
        { ...track, messageId: "nobody", anonymousId: null },
        { ...track, messageId: "no time", timestamp: "yesterday" },
        { ...track, messageId: "no kind", type: "click" },
        "not an object",
        JSON.parse(`{"type":"track","event":"e","userId":"u","properties":${'{"x":'.repeat(60)}1${"}".repeat(60)}}`),
        { ...track, messageId: "too large", properties: { text: "x".repeat(1_100_000) } },
        { ...track, messageId: "good 2" },
      ]
      const answer = await post(url, "/v1/batch", JSON.stringify({ batch }))
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual((await raw()).map(({ messageId }) => messageId).toSorted(), ["good 1", "good 2"])
      const letters = await dead()
      assert.deepStrictEqual(
        letters.map(({ headers }) => `${headers["millrace-reason"]} ${headers["millrace-field"]}`).toSorted(),
        [
          "InvalidMessage ",
          "InvalidMessage ",
          "InvalidMessage event",
          "InvalidMessage timestamp",
          "InvalidMessage type",
          "InvalidMessage userId",
          "TooLarge ",
        ],
      )
      for (const { headers } of letters) {
        assert.strictEqual(headers["millrace-source"], "web")
        assert.notMatch(headers["millrace-message"]!, /yesterday|not an object/)
      }
    }))

  for (const size of [1_100_000, 2_000_000]) {
    it.live(`cuts a message of ${size} bytes, and says how long it was, what it hashes to and where it was to go`, () =>
      collecting({}, async ({ url, raw, dead }) => {
        const large = { ...track, messageId: "too large", properties: { text: "x".repeat(size) } }
        const batch = [{ ...track, messageId: "good" }, large]
        assert.strictEqual((await post(url, "/v1/batch", JSON.stringify({ batch }))).status, 200)
        assert.lengthOf(await raw(), 1)
        const [letter] = await dead()
        const value = JSON.stringify(large)
        assert.deepInclude(letter!.headers, {
          "millrace-reason": "TooLarge",
          "millrace-truncated-length": String(value.length),
          "millrace-truncated-sha256": createHash("sha256").update(value).digest("hex"),
          "kafka_dlt-original-topic": "user.clicks.raw",
        })
        assert.isTrue(value.startsWith(letter!.value))
        assert.isAbove(letter!.value.length, 100_000)
        assert.isBelow(letter!.value.length, 110_000)
      }))
  }

  it.live("takes no more messages at a time than it is told to, and lets nobody run up a long debt", () =>
    collecting({ MAX_BATCH_ITEMS: "1000", RATE_LIMIT: "5" }, async ({ url, raw, dead }) => {
      const zeros = (count: number) => `{"batch":[${"0,".repeat(count - 1)}0]}`
      const many = new Uint8Array(gzipSync(zeros(2_000_000)))
      assert.isBelow(many.length, 5_000)
      for (const body of [many, zeros(1_001)]) assert.strictEqual((await post(url, "/v1/batch", body)).status, 413)
      assert.strictEqual((await raw()).length + (await dead()).length, 0)
      assert.strictEqual((await post(url, "/v1/batch", zeros(1_000))).status, 200)
      assert.lengthOf(await dead(), 1_000)
      const wait = Number((await post(url, "/v1/t", JSON.stringify(track))).headers.get("retry-after"))
      assert.isAtLeast(wait, 50)
      assert.isAtMost(wait, 62)
    }))

  it.live("does not repeat for every message what is long in the request", () =>
    collecting({}, async ({ url, raw }) => {
      const time = `2026-05-17T10:00:00.${"0".repeat(100_000)}Z`
      const body = JSON.stringify({ batch: [track], sentAt: time })
      await post(url, "/v1/batch", body, { "user-agent": "x".repeat(8_000) })
      const [message] = await raw()
      assert.isNull(message!["sentAt"])
      assert.strictEqual((message!["context"] as { userAgent: string }).userAgent.length, 1_024)
    }))

  it.live("keeps its places for requests that have arrived", () =>
    collecting({ MAX_REQUESTS: "2", MAX_HELD_BYTES: String(1024 * 1024) }, async ({ url, raw }) => {
      const message = JSON.stringify({ ...track, properties: { text: "x".repeat(100_000) } })
      const status = async () => (await post(url, "/v1/t", message)).status
      const slow = await Promise.all(Array.from({ length: 5 }, () => unfinished(url, 1)))
      assert.strictEqual(await status(), 200)
      assert.lengthOf(await raw(), 1)
      // Where all that may be held is held, others have to wait; but not for longer than it is.
      const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))
      let large = await unfinished(url, 1_000_000)
      for (let wait = 100; await pause(wait).then(status) !== 503; wait *= 2) {
        assert.isBelow(wait, 10_000)
        large.destroy()
        large = await unfinished(url, 1_000_000)
      }
      large.destroy()
      for (let left = 200; left > 0 && await status() !== 200; left--) await pause(20)
      assert.strictEqual(await status(), 200)
      for (const one of slow) one.destroy()
    }))

  it.live("takes a body in however many pieces", () =>
    collecting({}, async ({ url, raw }) => {
      const text = JSON.stringify({ ...track, properties: { text: "äöü".repeat(20_000) } })
      const pieces = Buffer.from(text)
      const body = new ReadableStream({
        start(controller) {
          for (let at = 0, size = 1; at < pieces.length; at += size++) {
            controller.enqueue(pieces.subarray(at, at + size))
          }
          controller.close()
        },
      })
      const init = { method: "POST", body, duplex: "half", headers: { authorization: basic } }
      assert.strictEqual((await fetch(`${url}/v1/t`, init as RequestInit)).status, 200)
      assert.deepInclude((await raw())[0], { properties: { text: "äöü".repeat(20_000) } })
    }))

  it.live("refuses ids that no table can hold, and names the field", () =>
    collecting({}, async ({ url, raw, dead }) => {
      const ids = Array.from(
        { length: 64 },
        (_, i) => `y${Array.from({ length: 6 }, (_, bit) => i >> bit & 1 ? "\ufffd" : "\0").join("")}`,
      )
      const batch = [
        ...ids.map((anonymousId, i) => ({ ...track, messageId: `${i}`, anonymousId })),
        ...["messageId", "userId"].map((field) => ({ ...track, [field]: "half \ud83e" })),
        { ...track, type: "group", groupId: "g\0" },
        { ...track, type: "alias", userId: "u", previousId: "p\0" },
      ]
      assert.strictEqual((await post(url, "/v1/batch", JSON.stringify({ batch }))).status, 200)
      assert.deepStrictEqual((await raw()).map(({ anonymousId }) => anonymousId), [ids.at(-1)])
      const fields = (await dead()).map(({ headers }) => headers["millrace-field"])
      assert.sameMembers(fields, [
        ...ids.slice(1).map(() => "anonymousId"),
        "messageId",
        "userId",
        "groupId",
        "previousId",
      ])
    }))

  it.live("takes ids that are numbers as text, and refuses those that JSON does not hold exactly", () =>
    collecting({}, async ({ url, raw, dead }) => {
      const batch = `{"batch":[
        {"type":"track","event":"e","messageId":1,"userId":9007199254740991},
        {"type":"track","event":"e","messageId":2,"userId":9007199254740993},
        {"type":"track","event":"e","messageId":3,"anonymousId":-1e400},
        {"type":"track","event":"e","messageId":12345678901234567890,"userId":"u"}]}`
      assert.strictEqual((await post(url, "/v1/batch", batch)).status, 200)
      assert.deepStrictEqual((await raw()).map(({ userId }) => userId), ["9007199254740991"])
      const letters = await dead()
      assert.sameMembers(
        letters.map(({ headers }) => headers["millrace-field"]),
        ["userId", "anonymousId", "messageId"],
      )
      for (const { headers } of letters) assert.strictEqual(headers["millrace-reason"], "InvalidMessage")
    }))

  it.live("takes times that are numbers as milliseconds, and no others", () =>
    collecting({}, async ({ url, raw, dead }) => {
      const seconds = 1_779_012_303
      const batch = [
        { ...track, messageId: "milliseconds", timestamp: seconds * 1000, sentAt: seconds * 1000 },
        { ...track, messageId: "seconds", timestamp: seconds },
        { ...track, messageId: "sent in seconds", sentAt: seconds },
        { ...track, messageId: "microseconds", timestamp: seconds * 1e6 },
      ]
      assert.strictEqual((await post(url, "/v1/batch", JSON.stringify({ batch }))).status, 200)
      const time = new Date(seconds * 1000).toISOString()
      assert.sameDeepMembers((await raw()).map(({ messageId, timestamp, sentAt }) => [messageId, timestamp, sentAt]), [
        ["milliseconds", time, time],
        ["sent in seconds", null, null],
      ])
      assert.deepStrictEqual((await dead()).map(({ headers }) => headers["millrace-field"]), ["timestamp", "timestamp"])
    }))

  it.live("answers 400 to what cannot be decoded, and keeps it as a dead letter", () =>
    collecting({ MAX_BODY_BYTES: "2000000" }, async ({ url, dead }) => {
      const bodies: ReadonlyArray<string | Uint8Array<ArrayBuffer>> = [
        "{",
        "",
        "[1]",
        new Uint8Array([0x1f, 0x8b, 1, 2, 3]),
        new Uint8Array([0xff, 0xfe, 0x00]),
        "x".repeat(1_500_000),
      ]
      for (const body of bodies) assert.strictEqual((await post(url, "/v1/t", body)).status, 400)
      const letters = await dead()
      assert.strictEqual(letters.length, bodies.length)
      for (const { headers } of letters) assert.strictEqual(headers["millrace-reason"], "UndecodableBody")
      const cut = letters.find(({ headers }) => headers["millrace-truncated-length"] !== undefined)!
      assert.strictEqual(cut.headers["millrace-truncated-length"], "1500000")
      assert.match(cut.headers["millrace-truncated-sha256"]!, /^[0-9a-f]{64}$/)
      assert.strictEqual((await fetch(`${url}/v1/t`, { method: "POST", body: "{" })).status, 401)
      assert.strictEqual((await dead()).length, bodies.length)
    }))

  it.live("answers 413 to bodies above the limit, as sent or when unpacked", () =>
    collecting({}, async ({ url, raw, dead }) => {
      assert.strictEqual((await post(url, "/v1/t", "x".repeat(4 * 1024 * 1024 + 1))).status, 413)
      assert.strictEqual((await post(url, "/v1/t", new Uint8Array(gzipSync("x".repeat(50_000_000))))).status, 413)
      assert.strictEqual((await raw()).length + (await dead()).length, 0)
    }))

  it.live("answers 429 above the rate of a write key, with the time to wait, and takes nothing then", () =>
    collecting({ RATE_LIMIT: "5" }, async ({ url, raw }) => {
      const batch = JSON.stringify({ batch: Array.from({ length: 5 }, (_, i) => ({ ...track, messageId: `${i}` })) })
      assert.strictEqual((await post(url, "/v1/batch", batch)).status, 200)
      const limited = await post(url, "/v1/batch", batch)
      assert.strictEqual(limited.status, 429)
      assert.match(limited.headers.get("retry-after")!, /^[1-9]\d*$/)
      assert.strictEqual((await raw()).length, 5)
      assert.strictEqual(
        (await post(url, "/v1/t", JSON.stringify(track), { authorization: `Basic ${btoa("k2:")}` })).status,
        200,
      )
    }))

  it.live("answers 503 while the brokers are away, is not ready then, and loses and repeats nothing", () =>
    collecting({ MAX_ANSWER_TIME: "1 second" }, async ({ url, raw, use }) => {
      assert.strictEqual((await fetch(`${url}/readyz`)).status, 200)
      await use(Faults.every(({ operation }) => operation === "Produce", Faults.unreachable))
      const away = await post(url, "/v1/t", JSON.stringify(track))
      assert.strictEqual(away.status, 503)
      assert.isAbove(Number(away.headers.get("retry-after")), 0)
      assert.strictEqual((await fetch(`${url}/readyz`)).status, 503)
      assert.strictEqual((await fetch(`${url}/livez`)).status, 200)
      await use(Faults.none)
      let status = 503
      for (let left = 20; status !== 200 && left > 0; left--) {
        status = (await post(url, "/v1/t", JSON.stringify(track))).status
      }
      assert.strictEqual(status, 200)
      assert.isAtLeast((await raw()).filter(({ messageId }) => messageId === "m1").length, 1)
      assert.strictEqual((await fetch(`${url}/readyz`)).status, 200)
    }))

  it.live("answers only when the brokers have acknowledged", () =>
    collecting({}, async ({ url, raw, use }) => {
      await use(Faults.at("Produce", 1, Faults.delay("300 millis")))
      let answered = false
      const answer = post(url, "/v1/t", JSON.stringify(track)).then(() => answered = true)
      while ((await raw()).length === 0) {
        assert.isFalse(answered)
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
      await answer
    }))

  it.live("shares its answers with the pages of listed origins", () =>
    collecting({ ALLOWED_ORIGINS: "https://shop.example" }, async ({ url }) => {
      const preflight = await fetch(`${url}/v1/t`, {
        method: "OPTIONS",
        headers: { origin: "https://shop.example", "access-control-request-method": "POST" },
      })
      assert.strictEqual(preflight.status, 204)
      assert.strictEqual(preflight.headers.get("access-control-allow-origin"), "https://shop.example")
      assert.include(preflight.headers.get("access-control-allow-headers")!, "Authorization")
      assert.include(preflight.headers.get("access-control-allow-headers")!, "X-Retry-Count")
      const limited = await post(url, "/v1/t", "{", { origin: "https://shop.example" })
      assert.strictEqual(limited.headers.get("access-control-expose-headers"), "Retry-After")
      const other = await post(url, "/v1/t", JSON.stringify(track), { origin: "https://other.example" })
      assert.isNull(other.headers.get("access-control-allow-origin"))
    }))

  for (const [policy, kept] of [["ignore", 2], ["anonymise", 1], ["drop", 0]] as const) {
    it.live(`follows the policy ${policy} for those who ask not to be tracked`, () =>
      collecting({ PRIVACY_POLICY: policy }, async ({ url, raw }) => {
        for (const header of ["sec-gpc", "dnt"]) {
          const batch = [
            {
              ...track,
              messageId: header,
              userId: "ann",
              context: { ip: "1.2.3.4", locale: "de", page: { path: "/x" } },
            },
            { type: "identify", userId: "ann", messageId: `${header} identify`, traits: { email: "ann@example.org" } },
          ]
          const answer = await post(url, "/v1/batch", JSON.stringify({ batch }), { [header]: "1" })
          assert.strictEqual(answer.status, 200)
        }
        const taken = await raw()
        assert.strictEqual(taken.length, kept * 2)
        if (policy !== "anonymise") return
        for (const one of taken) {
          assert.isNull(one["userId"])
          assert.match(String(one["anonymousId"]), /^[\w-]{22}$/)
          assert.deepStrictEqual(one["context"], { page: { path: "/x" } })
        }
        assert.strictEqual(new Set(taken.map(({ anonymousId }) => anonymousId)).size, 1)
      }))
  }

  for (
    const [policy, kept] of [["ignore", "everything"], ["anonymise", "hash and length"], ["drop", "nothing"]] as const
  ) {
    it.live(`keeps ${kept} of what cannot be taken from them under the policy ${policy}`, () =>
      collecting({ PRIVACY_POLICY: policy }, async ({ url, dead }) => {
        const bad = { ...track, event: null, userId: "ann", context: { locale: "de" } }
        const broken = `{"userId":"ann"`
        const large = { ...track, properties: { text: "x".repeat(1_100_000) } }
        const batch = JSON.stringify({ batch: [bad, large] })
        assert.strictEqual((await post(url, "/v1/batch", batch, { "sec-gpc": "1" })).status, 200)
        assert.strictEqual((await post(url, "/v1/batch", broken, { dnt: "1" })).status, 400)
        const letters = (await dead()).toSorted((a, b) => a.value.length - b.value.length)
        assert.lengthOf(letters, policy === "drop" ? 0 : 3)
        if (policy === "ignore") {
          assert.deepStrictEqual(letters.slice(0, 2).map(({ value }) => value), [broken, JSON.stringify(bad)])
        }
        if (policy !== "anonymise") return
        assert.sameDeepMembers(
          letters.map(({ headers, value }) => [
            value,
            headers["millrace-reason"],
            headers["millrace-field"],
            headers["millrace-truncated-length"],
            headers["millrace-truncated-sha256"],
          ]),
          [["InvalidMessage", "event", bad], ["TooLarge", "", large], ["UndecodableBody", "", broken]].map(
            ([reason, field, value]) => {
              const text = typeof value === "string" ? value : JSON.stringify(value)
              return ["", reason, field, String(text.length), createHash("sha256").update(text).digest("hex")]
            },
          ),
        )
      }))
  }

  for (const [policy, kept] of [["keep-short", { ip: "127.0.0.0" }], ["remove", {}]] as const) {
    it.live(`keeps no address of what cannot be taken that the policy ${policy} would not keep`, () =>
      collecting({ IP_POLICY: policy }, async ({ url, dead }) => {
        const bad = { ...track, event: null, context: { ip: "9.9.9.9", locale: "de" } }
        const batch = JSON.stringify({ batch: [bad, { ...bad, properties: { text: "x".repeat(1_100_000) } }] })
        assert.strictEqual((await post(url, "/v1/batch", batch)).status, 200)
        const letters = (await dead()).toSorted((a, b) => a.value.length - b.value.length)
        assert.deepStrictEqual(JSON.parse(letters[0]!.value).context, { locale: "de", ...kept })
        for (const { value } of letters) assert.notInclude(value, "9.9.9.9")
      }))
  }

  it.live("believes addresses only of its own proxies, and shortens them", () =>
    collecting({ PROXY_HOPS: "1" }, async ({ url, raw }) => {
      const lie = { ...track, context: { ip: "9.9.9.9" } }
      await post(url, "/v1/t", JSON.stringify(lie), {
        "x-forwarded-for": "6.6.6.6, 203.0.113.77",
        "user-agent": "Phone",
      })
      const [message] = await raw()
      assert.deepStrictEqual(message!["context"], { ip: "203.0.113.0", userAgent: "Phone" })
    }))

  for (const [keyBy, expected] of [["user", "u"], ["visitor", "a1"]] as const) {
    it.live(`keys messages by ${keyBy}`, () =>
      collecting({}, async ({ url, records }) => {
        await post(url, "/v1/t", JSON.stringify({ ...track, userId: "u" }))
        assert.strictEqual(String(Buffer.from((await records())[0]!.key!)), expected)
      }, { keyBy }))
  }

  it.live("tells trackers their settings, and takes their metrics", () =>
    collecting({ PUBLIC_URL: "https://collect.example.com/base" }, async ({ url }) => {
      const answer = await fetch(`${url}/v1/projects/k1/settings`)
      const { integrations } = await answer.json() as { integrations: Record<string, unknown> }
      assert.deepInclude(integrations["Segment.io"], {
        apiKey: "k1",
        apiHost: "collect.example.com/base/v1",
        protocol: "https",
      })
      assert.strictEqual((await fetch(`${url}/v1/projects/other/settings`)).status, 401)
      assert.strictEqual((await post(url, "/v1/m", "{}")).status, 200)
      assert.strictEqual((await fetch(`${url}/nothing`)).status, 404)
    }))

  for (
    const [hops, forwarded, protocol] of [["0", "https", "http"], ["1", "https", "https"], [
      "2",
      "http, https",
      "http",
    ]] as const
  ) {
    it.live(`tells trackers ${protocol} behind ${hops} proxies that say ${forwarded}`, () =>
      collecting({ PROXY_HOPS: hops }, async ({ url }) => {
        const { status, body } = await settingsAt(url, "collect.example.com:8443", forwarded)
        assert.strictEqual(status, 200)
        assert.deepInclude(JSON.parse(body).integrations["Segment.io"], {
          apiHost: "collect.example.com:8443/v1",
          protocol,
        })
      }))
  }

  it.live("does not send trackers where a Host header says that is no host", () =>
    collecting({}, async ({ url }) => {
      for (const host of ["evil.com/x?", "a b", "user@evil.com", "evil.com:1:2", "evil.com#"]) {
        assert.strictEqual((await settingsAt(url, host)).status, 400, host)
      }
      assert.strictEqual((await settingsAt(url, "[::1]:8080")).status, 200)
    }))
})

const settingsAt = (url: string, host: string, forwarded?: string) =>
  new Promise<{ readonly status: number | undefined; readonly body: string }>((resolve, reject) => {
    const headers = { host, ...forwarded === undefined ? {} : { "x-forwarded-proto": forwarded } }
    request(`${url}/v1/projects/k1/settings`, { headers }, (answer) => {
      let body = ""
      answer.on("data", (chunk) => body += chunk).on("end", () => resolve({ status: answer.statusCode, body }))
    }).on("error", reject).end()
  })
