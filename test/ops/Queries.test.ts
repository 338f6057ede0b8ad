/** Queries about pipelines at work on the cluster in memory: what is seen of commits, rebalances and failures, over HTTP. */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, Redacted, Schema, type Scope } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import {
  Admin,
  Aggregate,
  DeadLetter,
  Decode,
  Failures,
  Flow,
  Fold,
  Guarantee,
  Ingest,
  Pipeline,
  Queries,
  Topic,
  Window,
} from "../../src/index.ts"
import type { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import { forKey } from "../../src/kafka/Partitioner.ts"
import { ended, feed, pass, type Process, start, stop, switched, until } from "../support/Simulation.ts"

const partitions = 2
const about = { description: "Test", owner: "tests", partitions }
const Sale = Schema.Struct({ cents: Schema.Int, at: Schema.Int })
const Sales = Topic.make({ ...about, name: "sales", schema: Sale, eventTime: (sale: typeof Sale.Type) => sale.at })
const Dlt = Topic.bytes({ ...about, name: "dlt", partitions: 1 })

const sold = Ingest.topic(Sales).pipe(Decode.schema)
const poisoned = Flow.map((sale: typeof Sale.Type) => {
  if (sale.cents < 0) throw new TypeError("not this one")
  return sale
})
const sum = Fold.make({
  state: Schema.Int,
  initial: () => 0,
  add: (sum: number, sale: typeof Sale.Type) => sum + sale.cents,
})

const summing = Pipeline.make(
  "summing",
  sold.pipe(poisoned, Aggregate.running({ name: "sums", fold: sum }), Failures.routeAll(DeadLetter.to(Dlt))),
  Guarantee.exactlyOnce(),
)
const counting = Pipeline.make(
  "counting",
  sold.pipe(
    Aggregate.windowed({
      name: "minutes",
      window: Window.tumbling({ size: "1 minute", grace: "1 minute" }),
      fold: sum,
    }),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)

const keys = ["ann", "ben", "cho", "dee"]
const partitionOf = (key: string) => forKey(Buffer.from(key), partitions)
const keyIn = (partition: number): string => keys.find((key) => partitionOf(key) === partition)!
const [inFirst, inSecond] = [keyIn(0), keyIn(1)]

const sell = (key: string, cents: number, at = 0) =>
  feed([{ topic: "sales", partition: partitionOf(key), key, value: JSON.stringify({ cents, at }) }])

interface Entry {
  readonly key: string
  readonly partition: number
  readonly start?: number
  readonly end?: number
  readonly value: number
}

/** What bodies of all kinds have. */
interface Body extends Entry {
  readonly error: string
  readonly owner: string | null
  readonly windows: ReadonlyArray<Entry>
  readonly entries: ReadonlyArray<Entry>
  readonly next?: string
  readonly partitions: ReadonlyArray<number>
  readonly elsewhere: ReadonlyArray<{ readonly partition: number; readonly owner: string | null }>
  readonly stores: ReadonlyArray<Queries.StoreInfo>
}

interface Answer {
  readonly status: number
  readonly body: Body
  readonly headers: Headers
}

interface Asked {
  readonly method?: string
  readonly headers?: Record<string, string>
}

/** A program with a registry of its own, asked over HTTP as if it listened. */
const program = Effect.fnUntraced(function* (
  pipelines: ReadonlyArray<typeof summing>,
  options: { readonly endpoint?: string; readonly routes?: Queries.RoutesOptions; readonly plan?: Faults.Plan } = {},
) {
  const { endpoint, routes, plan = Faults.none } = options
  const context = yield* Layer.build(Layer.fresh(Queries.layer(endpoint === undefined ? {} : { endpoint })))
  const processes: Array<Process> = []
  for (const pipeline of pipelines) processes.push(yield* Effect.provideContext(start(pipeline, plan), context))
  const { handler, dispose } = HttpRouter.toWebHandler(
    Queries.routes(routes).pipe(Layer.provide(Layer.succeedContext(context))),
    { disableLogger: true },
  )
  yield* Effect.addFinalizer(() => Effect.promise(dispose))
  const ask = (path: string, asked: Asked = {}) =>
    Effect.promise(async (): Promise<Answer> => {
      const answer = await (handler as (request: Request) => Promise<Response>)(
        new Request(`http://here${path}`, asked),
      )
      const text = await answer.text()
      return { status: answer.status, headers: answer.headers, body: text === "" ? undefined : JSON.parse(text) }
    })
  const status = (path: string) => Effect.map(ask(path), ({ status }) => status)
  const value = (path: string) => Effect.map(ask(path), ({ status, body }) => status === 200 ? body.value : status)
  const serves = (...of: ReadonlyArray<string>) =>
    until(`answers about ${of}`, Effect.map(Effect.forEach(of, status), (all) => all.every((one) => one === 200)))
  return { processes, ask, status, value, serves, queries: Context.get(context, Queries.Queries) }
})

const test = <E>(name: string, body: Effect.Effect<void, E, Cluster | ClusterMemory.Control | Scope.Scope>) =>
  it.effect(name, () =>
    Effect.andThen(Admin.createTopics([Sales, Dlt]), body).pipe(
      Effect.scoped,
      Effect.provide(ClusterMemory.layer({ markerDelay: "20 millis" })),
    ))

const quiet = Effect.provide(Logger.layer([]))

describe("Queries of pipelines at work", () => {
  test(
    "answer what is committed, and not what is under way",
    Effect.gen(function* () {
      const { network, plan } = switched()
      const { value, status, serves, processes } = yield* program([summing], { plan })
      yield* sell(inFirst, 5)
      yield* serves(`/stores/sums/${inFirst}`)
      assert.strictEqual(yield* value(`/stores/sums/${inFirst}`), 5)

      // Commits wait at their end: what they hold is processed, and undecided.
      network.decide = ({ operation }) => operation === "EndTxn" ? Faults.hang : undefined
      yield* sell(inFirst, 3)
      yield* sell(inSecond, 7)
      yield* pass(3_000)
      const waits = (yield* processes[0]!.calls).filter(({ operation }) => operation === "EndTxn").length
      assert.isAbove(waits, 1)
      assert.strictEqual(yield* value(`/stores/sums/${inFirst}`), 5)
      assert.strictEqual(yield* status(`/stores/sums/${inSecond}`), 404)
    }),
  )

  test(
    "answer the old value while commits are aborted, the new one once one has succeeded, and never another between",
    Effect.gen(function* () {
      const { network, plan } = switched()
      const { value, serves } = yield* program([summing], { plan })
      yield* sell(inFirst, 5)
      yield* serves(`/stores/sums/${inFirst}`)
      network.decide = ({ operation }) => operation === "TxnOffsetCommit" ? Faults.unreachable : undefined
      yield* sell(inFirst, 3)
      yield* pass(2_000)
      yield* sell(inFirst, 4)
      yield* pass(2_000)
      assert.strictEqual(yield* value(`/stores/sums/${inFirst}`), 5)
      network.decide = () => undefined
      const seen = new Set<number>()
      yield* until(
        "the new value",
        Effect.map(value(`/stores/sums/${inFirst}`), (now) => {
          seen.add(now)
          return now === 12
        }),
      )
      assert.includeMembers([5, 8, 12], [...seen])
    }).pipe(quiet),
  )

  test(
    "send who asks the wrong process to the right one, before, in and after a rebalance",
    Effect.gen(function* () {
      const one = yield* program([summing], { endpoint: "http://one" })
      for (const [i, key] of keys.entries()) yield* sell(key, i + 1)
      yield* one.serves(...keys.map((key) => `/stores/sums/${key}`))
      const two = yield* program([summing], { endpoint: "http://two" })
      const held = (of: typeof one) =>
        Effect.map(of.ask("/stores"), ({ body }) => body.stores[0]?.held.filter(({ state }) => state === "ready") ?? [])
      const both = Effect.map(Effect.all([held(one), held(two)]), ([a, b]) => a.length === 1 && b.length === 1)
      // Nobody ever answers for a partition that the other one answers for as well.
      yield* until(
        "both at work",
        Effect.gen(function* () {
          for (const key of keys) {
            const answers = yield* Effect.all([one.ask(`/stores/sums/${key}`), two.ask(`/stores/sums/${key}`)])
            assert.isAtMost(answers.filter(({ status }) => status === 200).length, 1)
            for (const { status } of answers) assert.include([200, 404, 421, 503], status)
          }
          return yield* both
        }),
      )
      for (const [i, key] of keys.entries()) {
        const answers = yield* Effect.all([one.ask(`/stores/sums/${key}`), two.ask(`/stores/sums/${key}`)])
        assert.deepStrictEqual<unknown>(answers.map(({ status }) => status).sort(), [200, 421])
        const right = answers[0]!.status === 200 ? "one" : "two"
        const [yes, no] = right === "one" ? answers : [answers[1]!, answers[0]!]
        assert.deepStrictEqual<unknown>(yes!.body, { key, partition: partitionOf(key), value: i + 1 })
        assert.deepStrictEqual<unknown>(no!.body, {
          error: `partition ${partitionOf(key)} of store sums is not in this process`,
          partition: partitionOf(key),
          owner: `http://${right}`,
        })
      }
      const page = yield* two.ask("/stores/sums")
      assert.strictEqual(page.body.partitions.length, 1)
      assert.deepStrictEqual<unknown>(page.body.elsewhere, [{
        partition: 1 - page.body.partitions[0]!,
        owner: "http://one",
      }])
      yield* stop(two.processes[0]!.fiber)
      assert.strictEqual(yield* two.status(`/stores/sums/${inFirst}`), 404)
      yield* one.serves(...keys.map((key) => `/stores/sums/${key}`))
      for (const [i, key] of keys.entries()) assert.strictEqual(yield* one.value(`/stores/sums/${key}`), i + 1)
    }),
  )

  test(
    "never have an old value for a new one: not while others work on what is given away, nor when it comes back",
    Effect.gen(function* () {
      const { network, plan } = switched()
      const one = yield* program([summing], { plan })
      for (const key of keys) yield* sell(key, 1)
      yield* one.serves(...keys.map((key) => `/stores/sums/${key}`))

      // The answer to the first sync of the next generation comes to the second program long before the first.
      let syncs = 0
      network.decide = ({ operation }) =>
        operation === "SyncGroup" && syncs++ === 0 ? Faults.silenceAfter("3 seconds") : undefined
      const two = yield* program([summing])
      const moved = yield* Effect.gen(function* () {
        yield* until(
          "a partition that moved",
          Effect.map(
            two.ask("/stores"),
            ({ body }) => body.stores[0]?.held.some(({ state }) => state === "ready") === true,
          ),
        )
        const { body } = yield* two.ask("/stores")
        return body.stores[0]!.held[0]!.partition
      })
      assert.strictEqual(syncs, 1)
      const key = keyIn(moved)
      yield* sell(key, 10)
      yield* until("the new value", Effect.map(two.value(`/stores/sums/${key}`), (value) => value === 11))
      assert.include([421, 503], yield* one.status(`/stores/sums/${key}`))

      network.decide = ({ operation, topics }) =>
        operation === "Fetch" && topics.includes("summing-sums-changelog") ? Faults.delay("3 seconds") : undefined
      yield* pass(5_000)
      yield* sell(key, 100)
      yield* pass(2_000)
      yield* stop(two.processes[0]!.fiber)
      const seen = new Set<number>()
      yield* until(
        "the newest value",
        Effect.map(one.value(`/stores/sums/${key}`), (value) => {
          seen.add(value)
          return value === 111
        }),
      )
      assert.includeMembers([421, 503, 111], [...seen])
      assert.include([...seen], 503)
    }).pipe(quiet),
  )

  test(
    "say that they cannot answer now while state is restored, while the group is out of reach, and for a task that stopped",
    Effect.gen(function* () {
      const first = yield* program([summing])
      yield* sell(inFirst, 5)
      yield* sell(inSecond, 7)
      yield* first.serves(`/stores/sums/${inFirst}`, `/stores/sums/${inSecond}`)
      yield* stop(first.processes[0]!.fiber)

      const { network, plan } = switched()
      network.decide = ({ operation, topics }) =>
        operation === "Fetch" && topics.includes("summing-sums-changelog") ? Faults.delay("3 seconds") : undefined
      const { ask, status, serves, value, processes } = yield* program([summing], { plan })
      const starting = yield* ask(`/stores/sums/${inFirst}`)
      assert.strictEqual(starting.status, 404)
      yield* until("a task", Effect.map(ask("/stores"), ({ body }) => body.stores[0]?.held[0]?.state === "restoring"))
      const restoring = yield* ask(`/stores/sums/${inFirst}`)
      assert.strictEqual(restoring.status, 503)
      assert.strictEqual(restoring.headers.get("retry-after"), "1")
      assert.strictEqual(restoring.body.error, `partition ${partitionOf(inFirst)} of store sums is being restored`)
      assert.strictEqual(yield* status("/stores/sums"), 503)
      yield* serves(`/stores/sums/${inFirst}`, `/stores/sums/${inSecond}`)
      assert.strictEqual(yield* value(`/stores/sums/${inFirst}`), 5)

      network.decide = () => Faults.unreachable
      yield* pass(9_000)
      const lost = yield* ask(`/stores/sums/${inFirst}`)
      assert.deepStrictEqual<unknown>([lost.status, lost.body], [503, {
        error: "pipeline summing is being rebalanced: ask again in a moment",
      }])
      network.decide = () => undefined
      yield* serves(`/stores/sums/${inFirst}`)

      yield* sell(inSecond, -1)
      yield* until("a stop", Effect.map(status(`/stores/sums/${inSecond}`), (status) => status === 503))
      assert.include((yield* ask(`/stores/sums/${inSecond}`)).body.error, "has stopped")
      assert.strictEqual(yield* value(`/stores/sums/${inFirst}`), 5)
      assert.isUndefined(ended(processes[0]!))
    }).pipe(quiet),
  )

  test(
    "answer the windows of a key that are open, and pages of them",
    Effect.gen(function* () {
      const { ask, serves } = yield* program([summing, counting])
      const minute = 60_000
      for (const at of [10, 11, 12, 12]) yield* sell(inFirst, at, at * minute + 5)
      yield* serves(`/stores/minutes/${inFirst}`)
      const window = (start: number, value: number) => ({
        key: inFirst,
        partition: partitionOf(inFirst),
        start: start * minute,
        end: (start + 1) * minute,
        value,
      })
      const all = [window(11, 11), window(12, 24)]
      yield* until("all of it", Effect.map(ask(`/stores/minutes/${inFirst}`), ({ body }) => body.windows.length === 2))
      assert.deepStrictEqual<unknown>((yield* ask(`/stores/minutes/${inFirst}`)).body, { key: inFirst, windows: all })
      const range = `from=${12 * minute}&to=${12 * minute}`
      assert.deepStrictEqual<unknown>((yield* ask(`/stores/minutes/${inFirst}?${range}`)).body.windows, [
        window(12, 24),
      ])
      assert.deepStrictEqual<unknown>((yield* ask(`/stores/minutes/${inFirst}?to=0`)).body.windows, [])
      assert.deepStrictEqual<unknown>((yield* ask(`/stores/minutes/${inSecond}`)).body, { key: inSecond, windows: [] })
      assert.deepStrictEqual<unknown>((yield* ask("/stores/minutes")).body, {
        entries: all,
        partitions: [0, 1],
        elsewhere: [],
      })
      const { body } = yield* ask("/stores")
      assert.deepStrictEqual<unknown>(
        body.stores.map((
          { pipeline, store, windowed, partitions }: Queries.StoreInfo,
        ) => [pipeline, store, windowed, partitions]),
        [["summing", "sums", false, 2], ["counting", "minutes", true, 2]],
      )
      const held = body.stores[1]!.held[partitionOf(inFirst)]
      assert.deepStrictEqual<unknown>(held, {
        partition: partitionOf(inFirst),
        state: "ready",
        entries: 2,
        streamTime: 12 * minute + 5,
      })
    }),
  )

  test(
    "come in pages, for any key that there can be, and refuse in clear words what makes no sense",
    Effect.gen(function* () {
      const { ask, serves, status } = yield* program([summing])
      const odd = ["a/b", "a b?c=d&e", "ä%2F", "日本", "..", "x".repeat(300)]
      for (const key of odd) yield* sell(key, key.length)
      const path = (key: string) => `/stores/sums/${encodeURIComponent(key).replaceAll(".", "%2E")}`
      yield* serves(...odd.filter((key) => key !== "..").map(path))
      for (const key of odd.filter((key) => key !== "..")) {
        assert.deepStrictEqual<unknown>((yield* ask(path(key))).body, {
          key,
          partition: partitionOf(key),
          value: key.length,
        })
      }
      const read: Array<string> = []
      for (let after: string | undefined = ""; after !== undefined;) {
        const page: Answer = yield* ask(`/stores/sums?limit=2${after === "" ? "" : `&after=${after}`}`)
        read.push(...page.body.entries.map(({ key }) => key))
        after = page.body.next
      }
      assert.deepStrictEqual<unknown>(read, odd.toSorted())
      const prefixed = yield* ask("/stores/sums?prefix=a")
      assert.deepStrictEqual<unknown>(prefixed.body.entries.map(({ key }) => key), ["a b?c=d&e", "a/b"])
      // A question mark needs no encoding in a query (RFC 3986, section 3.4).
      const marked = yield* ask("/stores/sums?prefix=a%20b?c")
      assert.deepStrictEqual<unknown>(marked.body.entries.map(({ key }) => key), ["a b?c=d&e"])

      const refused = (path: string, code: number, words: string) =>
        Effect.gen(function* () {
          const answer = yield* ask(path)
          assert.strictEqual(answer.status, code, path)
          assert.include(answer.body.error, words)
          assert.strictEqual(answer.headers.get("content-type"), "application/json")
        })
      yield* refused("/stores/none", 404, "no pipeline of this process has a store named none")
      yield* refused("/stores/sums/none", 404, "store sums has no such key")
      yield* refused("/stores/sums?limit=0", 400, "limit is a whole number from 1 to 1000")
      yield* refused("/stores/sums?limit=many", 400, "limit is a whole number")
      yield* refused("/stores/sums?limit=1&limit=2", 400, "limit is given twice")
      yield* refused("/stores/sums?offset=2", 400, "offset is not a parameter here; these are: pipeline, prefix")
      yield* refused("/stores?x", 400, "x is not a parameter here; none are taken")
      yield* refused("/stores/sums?after=xyz", 400, "after is not what an earlier page has said")
      yield* refused("/stores/sums/ann?partition=2", 400, "partition is a whole number from 0 to 1")
      yield* refused("/stores/sums/ann?from=1", 400, "store sums has no windows")
      yield* refused("/stores/sums/a/b", 400, "slashes are written as %2F")
      yield* refused("/stores//ann", 400, "has no name")
      for (const path of ["/stores/sums/%E0%A4", "/stores/%zz"]) assert.strictEqual(yield* status(path), 404)
      yield* refused("/stores/sums/ann?pipeline=other", 404, "pipeline other has no store named sums")
      assert.strictEqual(yield* status("/stores/sums/"), 200)
    }),
  )

  test(
    "change nothing, tell no more than they are asked to, and can ask for a token",
    Effect.gen(function* () {
      const token = Redacted.make("secret-token")
      const { ask } = yield* program([summing, counting], { routes: { token, stores: ["sums"] } })
      yield* pass(1_000)
      const authorization = "Bearer secret-token"
      const without = yield* ask("/stores")
      assert.deepStrictEqual<unknown>([without.status, without.headers.get("www-authenticate")], [401, "Bearer"])
      for (const wrong of ["Bearer secret-toke", "secret-token", "Basic secret-token", ""]) {
        assert.strictEqual((yield* ask("/stores", { headers: { authorization: wrong } })).status, 401)
      }
      const { status, body, headers } = yield* ask("/stores", { headers: { authorization } })
      assert.strictEqual(status, 200)
      assert.deepStrictEqual<unknown>(body.stores.map(({ store }) => store), ["sums"])
      assert.deepStrictEqual<unknown>(
        ["cache-control", "content-security-policy", "x-content-type-options", "referrer-policy"].map((name) =>
          headers.get(name)
        ),
        ["no-store", "default-src 'none'; frame-ancestors 'none'", "nosniff", "no-referrer"],
      )
      assert.strictEqual((yield* ask("/stores/minutes", { headers: { authorization } })).status, 404)
      for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
        const answer = yield* ask("/stores/sums/ann", { method, headers: { authorization } })
        assert.deepStrictEqual<unknown>([answer.status, answer.headers.get("allow")], [405, "GET, HEAD"])
      }
      assert.strictEqual((yield* ask("/stores", { method: "HEAD", headers: { authorization } })).status, 200)
    }),
  )

  test(
    "come over a real connection",
    Effect.gen(function* () {
      const context = yield* Layer.build(Layer.fresh(Queries.layer()))
      yield* Effect.provideContext(start(summing, Faults.none), context)
      const server = HttpRouter.serve(Queries.routes(), { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
        Layer.provide(Layer.succeedContext(context)),
      )
      const { address } = Context.get(yield* Layer.build(server), HttpServer.HttpServer)
      const get = (path: string) =>
        Effect.promise(async () => {
          const answer = await fetch(`http://127.0.0.1:${(address as { readonly port: number }).port}${path}`)
          return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.text() }
        })
      yield* sell("a/b", 5)
      yield* until("an answer", Effect.map(get("/stores/sums/a%2Fb"), ({ status }) => status === 200))
      assert.deepStrictEqual<unknown>(yield* get("/stores/sums/a%2Fb"), {
        status: 200,
        type: "application/json",
        body: `{"key":"a/b","partition":${partitionOf("a/b")},"value":5}`,
      })
      assert.strictEqual((yield* get("/stores/sums/x?partition=9")).status, 400)
      assert.strictEqual((yield* get("/stores")).status, 200)
    }),
  )
})
