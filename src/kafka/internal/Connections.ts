/**
 * Connections to the brokers. A broker answers the requests of one connection one after the other, so what can take long
 * must not share one with what must not wait.
 */
import {
  AuthenticationError,
  Connection,
  type ConnectionOptions,
  MultipleErrors,
  protocolAPIsById,
  type ResponseParser,
  type SASLCustomAuthenticator,
  saslOAuthBearer,
  type SASLOptions,
  saslPlain,
  saslScramSha,
  type Writer,
} from "@platformatic/kafka"
import { Clock, Deferred, Effect, Exit, identity, Redacted, type Scope } from "effect"
import { isIP } from "node:net"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import type { KafkaError } from "../Cluster.ts"
import { type Address, broken, unanswered, unconnected } from "./Failure.ts"

/**
 * Requests of one lane to one broker share a connection and are carried out in the order they were sent; on an exclusive
 * lane each has a connection to itself while it is under way.
 */
export type Lane = "admin" | "control" | "fetch" | "heartbeat" | "join" | "produce"

const exclusive: ReadonlySet<Lane> = new Set(["fetch", "join"])

export type Sasl =
  | {
    readonly mechanism: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512"
    readonly username: string
    readonly password: Redacted.Redacted
  }
  | { readonly mechanism: "OAUTHBEARER"; readonly token: Redacted.Redacted }

export interface Settings {
  readonly clientId: string
  readonly sasl: Sasl | undefined
  readonly tls: TlsOptions | undefined
  /** In milliseconds. */
  readonly connectTimeout: number
}

/** One version of one request: how it is written and read. */
export interface Api<Request extends ReadonlyArray<unknown>, Response> {
  readonly api: { readonly key: number; readonly version: number }
  readonly createRequest: (...request: Request) => Writer | Promise<Writer>
  readonly parseResponse: ResponseParser<Response>
}

export interface Call<Response> {
  readonly operation: string
  readonly api: Api<never, Response>["api"]
  readonly write: () => Writer | Promise<Writer>
  readonly read: ResponseParser<Response>
}

export const call = <Request extends ReadonlyArray<unknown>, Response>(
  { api, createRequest, parseResponse }: Api<Request, Response>,
  ...request: Request
): Call<Response> => ({
  operation: (protocolAPIsById as Readonly<Record<number, string>>)[api.key] ?? String(api.key),
  api,
  write: () => createRequest(...request),
  read: parseResponse,
})

export interface Connections {
  /**
   * Sends a request and waits for its answer, error codes in the answer included. Without an answer in `timeout`
   * milliseconds the connection is given up, as everything behind this request would wait as well. When the caller is
   * interrupted the answer is dropped and others go on.
   */
  send<Response>(
    lane: Lane,
    address: Address,
    call: Call<Response>,
    timeout: number,
  ): Effect.Effect<Response, KafkaError>
}

interface Channel {
  readonly connection: Connection
  readonly opened: Deferred.Deferred<void, KafkaError>
  /** When the broker will want credentials again. */
  expires: number
  inFlight: number
}

export const make = Effect.fnUntraced(
  function* (settings: Settings): Effect.fn.Return<Connections, never, Scope.Scope> {
    const clock = yield* Clock.Clock
    const open = new Set<Channel>()
    const shared = new Map<string, Channel>()
    const idle = new Map<string, Array<Channel>>()

    const close = (channel: Channel) => {
      open.delete(channel)
      channel.connection.close(() => {})
      // Closing waits until what was written is taken, which a broker that hangs never does.
      channel.connection.socket?.destroy()
    }

    const connect = (address: Address): Channel => {
      const channel: Channel = {
        connection: new Connection(
          settings.clientId,
          optionsFor(settings, address, (lifetime) => {
            channel.expires = clock.currentTimeMillisUnsafe() + lifetime * 0.8
          }),
        ),
        opened: Deferred.makeUnsafe(),
        expires: Infinity,
        inFlight: 0,
      }
      open.add(channel)
      // Also keeps the client's error events from ending the process.
      channel.connection.on("error", () => close(channel))
      channel.connection.on("close", () => open.delete(channel))
      const settle = (error?: Error | null) => {
        if (error) close(channel)
        else channel.connection.socket.setKeepAlive(true, 30_000)
        Deferred.doneUnsafe(channel.opened, error ? Exit.fail(unconnected(address, error)) : Exit.void)
      }
      try {
        channel.connection.connect(address.host, address.port, settle)
      } catch (error) {
        settle(error instanceof Error ? error : new Error(String(error)))
      }
      return channel
    }

    const usable = (channel: Channel): boolean => open.has(channel) && channel.expires > clock.currentTimeMillisUnsafe()

    const acquire = (lane: Lane, address: Address): Channel => {
      const key = `${lane} ${address.host}:${address.port}`
      if (exclusive.has(lane)) {
        const waiting = idle.get(key) ?? []
        for (let channel = waiting.pop(); channel !== undefined; channel = waiting.pop()) {
          if (usable(channel)) return channel
          close(channel)
        }
        return connect(address)
      }
      const current = shared.get(key)
      if (current !== undefined) {
        if (usable(current)) return current
        if (current.inFlight === 0) close(current)
      }
      const channel = connect(address)
      shared.set(key, channel)
      return channel
    }

    const release = (lane: Lane, address: Address, channel: Channel) => {
      if (!usable(channel)) {
        if (channel.inFlight === 0) close(channel)
      } else if (exclusive.has(lane)) {
        const key = `${lane} ${address.host}:${address.port}`
        const waiting = idle.get(key)
        if (waiting === undefined) idle.set(key, [channel])
        else waiting.push(channel)
      }
    }

    const exchange = <Response>(
      lane: Lane,
      address: Address,
      channel: Channel,
      { operation, api, write, read }: Call<Response>,
    ) =>
      Effect.callback<Response, KafkaError>((resume) => {
        channel.inFlight++
        channel.connection.send(api.key, api.version, write, read, true, true, (error, response) => {
          channel.inFlight--
          release(lane, address, channel)
          const answer = error === null ? response : answerIn<Response>(error)
          resume(
            answer === undefined
              ? Effect.fail(broken(operation, address, error ?? new Error("no answer")))
              : Effect.succeed(answer),
          )
        })
      })

    yield* Effect.addFinalizer(() => Effect.sync(() => [...open].forEach(close)))

    return {
      send: (lane, address, call, timeout) =>
        Effect.suspend(() => {
          const channel = acquire(lane, address)
          const exchanged = exchange(lane, address, channel, call)
          const giveUp = Effect.sync(() => close(channel))
          // Giving up the connection ends the exchange by itself, so that this holds where nothing can be interrupted.
          const late = Effect.interruptible(Effect.sleep(timeout)).pipe(
            Effect.andThen(giveUp),
            Effect.andThen(Effect.fail(unanswered(call.operation, address, timeout))),
          )
          return Effect.raceFirst(
            channel.connection.isConnected() ? exchanged : Effect.andThen(Deferred.await(channel.opened), exchanged),
            late,
          ).pipe(exclusive.has(lane) ? Effect.onInterrupt(() => giveUp) : identity)
        }),
    }
  },
)

/** The client raises an error for an answer with error codes in it, and keeps the answer there. */
const answerIn = <Response>(error: Error): Response | undefined =>
  error instanceof MultipleErrors ? (Reflect.get(error, "response") as Response | undefined) : undefined

const optionsFor = (
  { sasl, tls, connectTimeout }: Settings,
  { host }: Address,
  onLifetime: (milliseconds: number) => void,
): ConnectionOptions => ({
  connectTimeout,
  // Every request has a timeout of ours; the longest that a timer takes keeps the client's out of it.
  requestTimeout: 2 ** 31 - 1,
  maxInflights: 1_000,
  ...(sasl === undefined ? {} : { sasl: saslOptions(sasl, onLifetime) }),
  ...(tls === undefined ? {} : { tls, tlsServerName: tls.servername ?? isIP(host) === 0 }),
})

/**
 * The client authenticates again on a connection in use, where other requests may come between the two steps and the
 * broker then closes it. So it does not learn about lifetimes, and connections are replaced before they end.
 */
const saslOptions = (sasl: Sasl, onLifetime: (milliseconds: number) => void): SASLOptions => {
  const authenticate: SASLCustomAuthenticator = (_mechanism, connection, api, _username, _password, _token, done) => {
    const callback: typeof done = (error, response) => {
      if (error !== null || response === undefined) return done(error, response)
      // What a broker says to a token that it accepts is empty.
      if (sasl.mechanism === "OAUTHBEARER" && response.authBytes.length > 0) {
        return done(new AuthenticationError("the token was not accepted"))
      }
      const lifetime = Number(response.sessionLifetimeMs)
      if (lifetime > 0) onLifetime(lifetime)
      done(null, { ...response, sessionLifetimeMs: 0n })
    }
    if (sasl.mechanism === "OAUTHBEARER") {
      return saslOAuthBearer.authenticate(api, connection, Redacted.value(sasl.token), {}, callback)
    }
    const { mechanism, username } = sasl
    const password = Redacted.value(sasl.password)
    if (mechanism === "PLAIN") return saslPlain.authenticate(api, connection, username, password, callback)
    const algorithm = mechanism === "SCRAM-SHA-256" ? "SHA-256" : "SHA-512"
    saslScramSha.authenticate(api, connection, algorithm, username, password, saslScramSha.defaultCrypto, callback)
  }
  return { mechanism: sasl.mechanism, authenticate }
}
