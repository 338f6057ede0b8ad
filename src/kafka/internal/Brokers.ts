/** Finds the broker that a request is for: any, a node by its number, or the coordinator of a group or transaction. */
import { Effect } from "effect"
import { KafkaError } from "../Cluster.ts"
import { type Call, call, type Connections, type Lane } from "./Connections.ts"
import { type Address, nameOf, refused } from "./Failure.ts"
import { FindCoordinator, Metadata } from "./Protocol.ts"

export type MetadataResponse = ReturnType<typeof Metadata.parseResponse>

export interface Brokers {
  /** Milliseconds that a request may take. */
  readonly timeout: number
  /** The brokers, and the topics named, or all. */
  metadata(topics: ReadonlyArray<string> | undefined): Effect.Effect<MetadataResponse, KafkaError>
  /** Asks the first broker that can be reached, last known ones before those of the settings. */
  any<Response>(call: Call<Response>): Effect.Effect<Response, KafkaError>
  /** Fails with BROKER_NOT_AVAILABLE for a node that is not in the cluster. */
  node<Response>(lane: Lane, node: number, call: Call<Response>, timeout?: number): Effect.Effect<Response, KafkaError>
  readonly nodes: Effect.Effect<ReadonlyArray<number>, KafkaError>
  /**
   * Runs a request against a coordinator. It is asked for once, and again after an answer that says that it has moved or
   * may be gone.
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

/** Failures after which another broker may be the coordinator. */
const moved: ReadonlySet<string> = new Set(["NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "NETWORK", "TIMEOUT"])

export const make = (connections: Connections, bootstrap: ReadonlyArray<Address>, timeout: number): Brokers => {
  let addresses: ReadonlyMap<number, Address> = new Map()
  const coordinators = new Map<string, Address>()

  const any = <Response>(request: Call<Response>): Effect.Effect<Response, KafkaError> =>
    Effect.suspend(() => {
      const known = [...addresses.values()]
      const fallback = bootstrap.filter(({ host, port }) =>
        !known.some((one) => one.host === host && one.port === port)
      )
      const [first, ...others] = [...known, ...fallback].map((address) =>
        connections.send("admin", address, request, timeout)
      )
      return others.reduce(
        (tried, next) =>
          // Once a request was sent, the next broker could carry it out a second time.
          Effect.catch(tried, (error) =>
            error.operation === "Connect"
              ? Effect.mapError(next, (second) => keepAuthentication(error, second))
              : Effect.fail(error)),
        first!,
      )
    })

  const metadata = (topics: ReadonlyArray<string> | undefined) =>
    Effect.tap(any(call(Metadata, topics === undefined ? null : [...topics], false)), (response) =>
      Effect.sync(() => {
        addresses = new Map(response.brokers.map(({ nodeId, host, port }) => [nodeId, { host, port }]))
      }))

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

  const coordinator = Effect.fnUntraced(function* ({ kind, key }: Coordinated): Effect.fn.Return<Address, KafkaError> {
    const known = coordinators.get(`${kind} ${key}`)
    if (known !== undefined) return known
    const { coordinators: [found] } = yield* any(call(FindCoordinator, kind === "group" ? 0 : 1, [key]))
    const error = found === undefined ? "COORDINATOR_NOT_AVAILABLE" : nameOf(found.errorCode)
    if (found === undefined || error !== null) {
      return yield* refused("FindCoordinator", `${kind} ${key}`, error ?? "", found?.errorMessage)
    }
    const address = { host: found.host, port: found.port }
    coordinators.set(`${kind} ${key}`, address)
    return address
  })

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
        (address) => request((lane, call, within = timeout) => connections.send(lane, address, call, within)),
      ).pipe(
        Effect.tapError(({ code }) =>
          Effect.sync(() => {
            if (moved.has(code)) coordinators.delete(`${of.kind} ${of.key}`)
          })
        ),
      ),
  }
}

/** Of brokers that cannot be reached, one that refused the credentials says more than one that is away. */
const keepAuthentication = (first: KafkaError, second: KafkaError): KafkaError =>
  first.code === "AUTHENTICATION" && second.code === "NETWORK" ? first : second
