/** Finds the broker that a request is for: any, a node by its number, or the coordinator of a group or transaction. */
import { Effect } from "effect"
import { KafkaError } from "../Cluster.ts"
import { type Call, call, type Connections, type Lane } from "./Connections.ts"
import { type Address, nameOf, refused, replaced } from "./Failure.ts"
import { FindCoordinator, Metadata } from "./Protocol.ts"

export type MetadataResponse = ReturnType<typeof Metadata.parseResponse>

export interface Brokers {
  /** Milliseconds that a request may take. */
  readonly timeout: number
  /** The brokers, and the topics named, or all. */
  metadata(topics: ReadonlyArray<string> | undefined): Effect.Effect<MetadataResponse, KafkaError>
  /**
   * Asks the first broker that can be reached: the one that answered last, then those known, then those of the settings. A
   * request that may be carried out more than once is `repeatable`: where no answer comes, the next broker is asked.
   */
  any<Response>(call: Call<Response>, repeatable?: "repeatable"): Effect.Effect<Response, KafkaError>
  /** Fails with BROKER_NOT_AVAILABLE for a node that is not in the cluster. */
  node<Response>(lane: Lane, node: number, call: Call<Response>, timeout?: number): Effect.Effect<Response, KafkaError>
  readonly nodes: Effect.Effect<ReadonlyArray<number>, KafkaError>
  /**
   * Runs a request against a coordinator. It is asked for once, and again after an answer that says that it has moved or
   * may be gone, or when a request was interrupted. Where no answer comes for a while, others are asked who it is: once it is
   * another, the request fails with TIMEOUT.
   */
  coordinated<A>(
    of: Coordinated,
    request: (send: Send) => Effect.Effect<A, KafkaError>,
  ): Effect.Effect<A, KafkaError>
}

export interface Coordinated {
  readonly kind: "group" | "transactional id"
  readonly key: string
}

export interface Send {
  <Response>(lane: Lane, call: Call<Response>, timeout?: number): Effect.Effect<Response, KafkaError>
}

/** How long one broker is waited for where another can be asked, in milliseconds. */
const patience = 3_000

/** No answer came: the broker may hang, be cut off, or end behind something that still takes connections for it. */
const silent: ReadonlySet<string> = new Set(["NETWORK", "TIMEOUT"])

/** Failures after which another broker may be the coordinator. */
const moved: ReadonlySet<string> = new Set(["NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "NETWORK", "TIMEOUT"])

export const make = (connections: Connections, bootstrap: ReadonlyArray<Address>, timeout: number): Brokers => {
  let addresses: ReadonlyMap<number, Address> = new Map()
  const coordinators = new Map<string, Address>()

  /** Who answered last. */
  let last: Address | undefined

  /** Everybody once, the likeliest to answer first. */
  const candidates = (): ReadonlyArray<Address> => {
    const all = [...last === undefined ? [] : [last], ...addresses.values(), ...bootstrap]
    return all.filter(({ host, port }, i) => all.findIndex((one) => one.host === host && one.port === port) === i)
  }

  const any = Effect.fnUntraced(function* <Response>(
    request: Call<Response>,
    repeatable?: "repeatable",
  ): Effect.fn.Return<Response, KafkaError> {
    let failure: KafkaError | undefined
    const all = candidates()
    for (const [i, address] of all.entries()) {
      const within = repeatable === undefined || i === all.length - 1 ? timeout : Math.min(timeout, patience)
      const answer = yield* Effect.result(connections.send("admin", address, request, within))
      if (answer._tag === "Success") {
        last = address
        return answer.success
      }
      const error = answer.failure
      failure = failure === undefined ? error : keepAuthentication(failure, error)
      // Once a request was sent, the next broker could carry it out a second time.
      if (error.operation !== "Connect" && !(repeatable !== undefined && silent.has(error.code))) break
    }
    return yield* failure!
  })

  const metadata = (topics: ReadonlyArray<string> | undefined) =>
    Effect.tap(
      any(call(Metadata, topics === undefined ? null : [...topics], false), "repeatable"),
      (response) =>
        Effect.sync(() => {
          addresses = new Map(response.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]))
        }),
    )

  const addressOf = Effect.fnUntraced(function* (node: number): Effect.fn.Return<Address, KafkaError> {
    const known = addresses.get(node)
    if (known !== undefined) return known
    yield* metadata([])
    const found = addresses.get(node)
    if (found !== undefined) return found
    return yield* new KafkaError({
      code: "BROKER_NOT_AVAILABLE",
      operation: "Metadata",
      message: `broker ${node} is not in the cluster now (${
        [...addresses.keys()].join(", ")
      } are); ask for the leaders again`,
    })
  })

  const coordinator = Effect.fnUntraced(function* (of: Coordinated): Effect.fn.Return<Address, KafkaError> {
    const { kind, key } = of
    const known = coordinators.get(`${kind} ${key}`)
    if (known !== undefined) return known
    const found = yield* findCoordinator(of)
    coordinators.set(`${kind} ${key}`, found)
    return found
  })

  const findCoordinator = Effect.fnUntraced(function* (
    { kind, key }: Coordinated,
  ): Effect.fn.Return<Address, KafkaError> {
    const { coordinators: [found] } = yield* any(
      call(FindCoordinator, kind === "group" ? 0 : 1, [key]),
      "repeatable",
    )
    const error = found === undefined ? "COORDINATOR_NOT_AVAILABLE" : nameOf(found.errorCode)
    if (found === undefined || error !== null) {
      return yield* refused("FindCoordinator", `${kind} ${key}`, error ?? "", found?.errorMessage)
    }
    return { host: found.host, port: found.port }
  })

  /** Ends when another broker is the coordinator. A broker that hangs, or is cut off without a word, is none after a while. */
  const deposed = (of: Coordinated, { host, port }: Address): Effect.Effect<void> =>
    Effect.interruptible(Effect.gen(function* () {
      for (;;) {
        yield* Effect.sleep(patience)
        const found = yield* Effect.result(findCoordinator(of))
        if (found._tag === "Success" && (found.success.host !== host || found.success.port !== port)) return
      }
    }))

  return {
    timeout,
    metadata,
    any,
    node: (lane, node, request, within = timeout) =>
      Effect.flatMap(addressOf(node), (address) => connections.send(lane, address, request, within)),
    nodes: Effect.map(metadata([]), ({ brokers }) => brokers.map(({ nodeId }) => nodeId)),
    coordinated: (of, request) =>
      Effect.flatMap(
        coordinator(of),
        (address) =>
          request((lane, call, within = timeout) =>
            Effect.raceFirst(
              connections.send(lane, address, call, within),
              Effect.andThen(deposed(of, address), Effect.fail(replaced(call.operation, address))),
            )
          ),
      ).pipe(
        Effect.tapError(({ code }) =>
          Effect.sync(() => {
            if (moved.has(code)) coordinators.delete(`${of.kind} ${of.key}`)
          })
        ),
        // Who gives a request up has mostly waited for too long.
        Effect.onInterrupt(() => Effect.sync(() => coordinators.delete(`${of.kind} ${of.key}`))),
      ),
  }
}

/** Of brokers that cannot be reached, one that refused the credentials says more than one that is away. */
const keepAuthentication = (first: KafkaError, second: KafkaError): KafkaError =>
  first.code === "AUTHENTICATION" && second.code === "NETWORK" ? first : second
