/** Keys in Redis as what lookups ask, over the official client, which is loaded by those who connect. */
import { Clock, Context, Duration, Effect, Layer, Random, Redacted, Result, Schedule, Schema } from "effect"
import type { createClient } from "@redis/client"
import { spread } from "../Jitter.ts"
import { Undecodable } from "../stages/lookups/LookupAnswer.ts"
import { invalid } from "../Topic.ts"

/** Redis cannot be reached, or refused a command. The message repeats neither keys nor values. */
export class RedisError extends Schema.TaggedError<RedisError>()("RedisError", {
  message: Schema.String,
  /** Whether trying again may help. */
  retriable: Schema.Boolean,
}) {}

type Client = ReturnType<typeof createClient>

/** One connection to one server, which comes back by itself after it broke. */
export class Redis extends Context.Service<Redis, {
  /** Runs commands on the connection; fails at once while there is none. */
  readonly use: <A>(run: (client: Client) => Promise<A>) => Effect.Effect<A, RedisError>
}>()("millrace/lookups/Redis") {}

export interface Options {
  /** `redis://user:password@host:6379/0`, or `rediss://` for TLS. */
  readonly url: Redacted.Redacted<string>
  /**
   * After so long without a connection, or with commands that wait and nothing heard, another is made in its place; 10
   * seconds unless given. Nothing else ends a connection for minutes where a network swallows everything.
   */
  readonly patience?: Duration.Input
}

/** A connection takes a moment. */
const atFirst = Schedule.spaced("20 millis").pipe(spread, Schedule.upTo({ duration: "1 second" }))

/** How long a server may be away when a program starts. */
const atStart = Schedule.spaced("250 millis").pipe(spread, Schedule.upTo({ duration: "15 seconds" }))

/**
 * Connects until the scope ends. A server that is away at the start is waited for, 15 seconds at most; an address that is
 * none is a `RedisError` at once.
 */
export const layer = ({ url, patience = "10 seconds" }: Options): Layer.Layer<Redis, RedisError> =>
  Layer.effect(
    Redis,
    Effect.gen(function* () {
      const { createClient } = yield* Effect.promise(() => import("@redis/client"))
      const clock = yield* Clock.clockWith(Effect.succeed)
      const random = yield* Random.Random
      const lot = () => random.nextDoubleUnsafe()
      const where = URL.parse(Redacted.value(url))?.host
      if (where === undefined) return yield* noAddress
      const connection = yield* Effect.acquireRelease(
        Effect.try({
          try: () => new Connection(() => clientOf(createClient, url, lot), clock, Duration.toMillis(patience)),
          // What the client throws repeats the address, and with it the password.
          catch: () => noAddress,
        }),
        (connection) => Effect.sync(() => connection.close()),
      )
      const use = <A>(run: (client: Client) => Promise<A>): Effect.Effect<A, RedisError> =>
        Effect.tryPromise({
          try: () => connection.use(run),
          catch: (cause) => failure(connection.isOpen ? cause : connection.trouble ?? cause, where),
        })
      const ping = use((client) => client.ping())
      yield* Effect.catch(
        Effect.retry(ping, { schedule: atFirst, while: ({ retriable }) => retriable }),
        (error) =>
          error.retriable
            ? Effect.andThen(
              Effect.logWarning(`${error.message}; trying again for 15 seconds`),
              Effect.retry(ping, { schedule: atStart, while: ({ retriable }) => retriable }),
            )
            : Effect.fail(error),
      )
      return Redis.of({ use })
    }),
  )

const clientOf = (create: typeof createClient, url: Redacted.Redacted<string>, lot: () => number): Client =>
  create({
    url: Redacted.value(url),
    name: "millrace",
    // Commands that wait for a connection would be late, and nobody wants their answers any more.
    disableOfflineQueue: true,
    // Processes that lost one server do not all come back at one moment.
    socket: {
      connectTimeout: 5_000,
      reconnectStrategy: (retries) => Math.ceil(Math.min(1_000, 50 * 2 ** retries) * (1 + lot()) / 2),
    },
  })

/** The client, and another in its place where one is of no use. */
class Connection {
  readonly #create: () => Client
  readonly #clock: Clock.Clock
  readonly #patience: number
  #client: Client
  #waiting = 0
  #heard = 0
  /** Why there is no connection, as far as is known. */
  trouble: unknown

  constructor(create: () => Client, clock: Clock.Clock, patience: number) {
    this.#create = create
    this.#clock = clock
    this.#patience = patience
    this.#client = this.#connect()
  }

  get isOpen(): boolean {
    return this.#client.isReady
  }

  #connect(): Client {
    const client = this.#create()
    client.on("error", (error) => this.trouble = error)
    client.connect().catch(() => {})
    return client
  }

  use<A>(run: (client: Client) => Promise<A>): Promise<A> {
    const now = this.#clock.currentTimeMillisUnsafe()
    if (this.#waiting === 0 && this.isOpen) this.#heard = now
    else if (now - this.#heard > this.#patience) {
      this.close()
      this.#client = this.#connect()
      this.#waiting = 0
      this.#heard = now
    }
    const client = this.#client
    const ended = () => {
      if (client !== this.#client) return
      this.#waiting--
      this.#heard = this.#clock.currentTimeMillisUnsafe()
    }
    this.#waiting++
    const answer = run(client)
    answer.then(ended, ended)
    return answer
  }

  close(): void {
    if (this.#client.isOpen) this.#client.destroy()
  }
}

const noAddress = new RedisError({
  message: "the address of Redis is none: it is redis://user:password@host:6379/0, or rediss:// for TLS",
  retriable: false,
})

/** Of a refusal only the code goes on: its words can repeat a command's arguments. */
const failure = (cause: unknown, where: string): RedisError => {
  const name = cause instanceof Error ? cause.constructor.name : ""
  if (cause instanceof Error && (name === "ErrorReply" || name === "SimpleError" || name === "BlobError")) {
    const code = cause.message.split(" ")[0]!
    return new RedisError({ message: `Redis at ${where} refused a command (${code})`, retriable: passing.has(code) })
  }
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : name
  return new RedisError({
    message: `Redis at ${where} cannot be reached or closed the connection (${code})`,
    retriable: true,
  })
}

const passing: ReadonlySet<string> = new Set(["LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"])

type GetAll<V> = (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, V | Undecodable>, RedisError, Redis>

export interface ValueOptions<V> {
  /** What a value is. */
  readonly value: Schema.Codec<V, unknown>
  /** Whether the value is JSON (unless given), or the text as it is. */
  readonly format?: "json" | "text"
}

/**
 * For `Lookup.make`: the values of keys by one MGET, under `prefix` and the key. A key that holds something else than a
 * string is missing. One server or its replicas: in a cluster the keys of an MGET must be in one slot.
 */
export const values = <V>({ prefix = "", ...value }: ValueOptions<V> & { readonly prefix?: string }): GetAll<V> => {
  const decode = decoder(value)
  return (keys) => asked((client) => client.mGet(keys.map((key) => prefix + key)), keys, decode)
}

/** For `Lookup.make`: the values of one hash, whose fields are the keys, by one HMGET. */
export const fields = <V>({ hash, ...value }: ValueOptions<V> & { readonly hash: string }): GetAll<V> => {
  const decode = decoder(value)
  return (keys) => asked((client) => client.hmGet(hash, [...keys]), keys, decode)
}

/** For `Lookup.make`: a hash of its own for every key, under `prefix` and the key, by HGETALLs that are sent together. */
export const hashes = <V>(
  { prefix = "", value }: { readonly prefix?: string; readonly value: Schema.Codec<V, unknown> },
): GetAll<V> => {
  const decode = Schema.decodeUnknownResult(value)
  const ask = async (client: Client, key: string) => {
    const found = { ...await client.hGetAll(prefix + key) }
    return Object.keys(found).length === 0 ? null : found
  }
  return (keys) => asked((client) => Promise.all(keys.map((key) => ask(client, key))), keys, (found) => decode(found))
}

/** For `Lookup.reference`: a whole hash, by one HGETALL. */
export const hash = <V>(
  { hash, ...value }: ValueOptions<V> & { readonly hash: string },
): Effect.Effect<ReadonlyMap<string, V | Undecodable>, RedisError, Redis> => {
  const decode = decoder(value)
  return Effect.map(
    Redis.use(({ use }) => use((client) => client.hGetAll(hash))),
    (found) => new Map(Object.entries(found).map(([key, text]) => [key, orUndecodable(decode(text))])),
  )
}

type Decoded<V> = Result.Result<V, Schema.SchemaError | Undecodable>

const asked = <V, T>(
  run: (client: Client) => Promise<ReadonlyArray<T | null>>,
  keys: ReadonlyArray<string>,
  decode: (found: T) => Decoded<V>,
): Effect.Effect<ReadonlyMap<string, V | Undecodable>, RedisError, Redis> =>
  Effect.map(
    Redis.use(({ use }) => use(run)),
    (found) =>
      new Map(keys.flatMap((key, i) => {
        const one = found[i]
        return one === null || one === undefined ? [] : [[key, orUndecodable(decode(one))] as const]
      })),
  )

const orUndecodable = <V>(decoded: Decoded<V>): V | Undecodable =>
  Result.getOrElse(decoded, (error) => error instanceof Undecodable ? error : new Undecodable(invalid(error)))

const decoder = <V>({ value, format = "json" }: ValueOptions<V>): (text: string) => Decoded<V> => {
  const decode = Schema.decodeUnknownResult(value)
  if (format === "text") return decode
  return (text) => {
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch {
      return Result.fail(new Undecodable({ field: "", message: "the value is not JSON" }))
    }
    return decode(json)
  }
}
