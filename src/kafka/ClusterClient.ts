/** The port to the brokers over the network: Apache Kafka 3.9 and newer. */
import { Config, type Duration, Effect, Layer, Option, Redacted, type Scope } from "effect"
import { readFile } from "node:fs/promises"
import { Cluster, type KafkaError } from "./Cluster.ts"
import * as Brokers from "./internal/Brokers.ts"
import * as Connections from "./internal/Connections.ts"
import * as Groups from "./internal/Groups.ts"
import * as Logs from "./internal/Logs.ts"
import { type Given, type Names, type Settings, settle, type Tls } from "./internal/Settings.ts"
import * as Topics from "./internal/Topics.ts"
import * as TransactionAdmin from "./internal/TransactionAdmin.ts"
import * as Transactions from "./internal/Transactions.ts"

export type { Tls }

/** How to prove to the brokers who we are. */
export type Sasl = Connections.Sasl

export interface ClientOptions {
  /** Some of the cluster's brokers as `host:port`; the others are learnt from them. */
  readonly brokers: ReadonlyArray<string>
  /** How brokers name us in their logs and quotas; `millrace` unless given. */
  readonly clientId?: string
  readonly sasl?: Sasl
  /** `true` for the runtime's defaults. */
  readonly tls?: boolean | Tls
  /** How long an answer is waited for, on top of what the request itself may wait; 30 seconds unless given. */
  readonly requestTimeout?: Duration.Input
}

/**
 * Connects when the first request is made. Fails with code `CLIENT` for settings that cannot be used, and says of all of
 * them what is wrong. When the layer's scope closes, all connections close, and what is under way ends with NETWORK.
 */
export const layer = (options: ClientOptions): Layer.Layer<Cluster, KafkaError> =>
  Layer.effect(Cluster, Effect.flatMap(settle(givenBy(options), optionNames), make))

/**
 * From `KAFKA_BROKERS` (separated by commas), `KAFKA_CLIENT_ID`, `KAFKA_SASL_MECHANISM` with `KAFKA_SASL_USERNAME` and
 * `KAFKA_SASL_PASSWORD`, or with `KAFKA_SASL_TOKEN`, `KAFKA_TLS` (true or false) with the PEM files `KAFKA_TLS_CA`,
 * `KAFKA_TLS_CERT` and `KAFKA_TLS_KEY`, `KAFKA_TLS_SERVERNAME`, and `KAFKA_REQUEST_TIMEOUT` ("30 seconds").
 */
export const layerConfig: Layer.Layer<Cluster, KafkaError> = Layer.effect(
  Cluster,
  Effect.suspend(() => Effect.flatMap(fromConfig, make)),
)

const make = Effect.fnUntraced(
  function* (settings: Settings): Effect.fn.Return<Cluster["Service"], never, Scope.Scope> {
    const connections = yield* Connections.make(settings)
    const brokers = Brokers.make(connections, settings.bootstrap, settings.requestTimeout)
    const topics = Topics.make(brokers)
    const { createTopics, deleteTopics, listOffsets, metadata, topicConfig } = topics
    return Cluster.of({
      ...{ createTopics, deleteTopics, listOffsets, metadata, topicConfig },
      ...Logs.make(brokers, topics),
      ...Transactions.make(brokers),
      ...TransactionAdmin.make(brokers, topics),
      ...Groups.make(brokers),
    })
  },
)

const defaults = { clientId: "millrace", requestTimeout: "30 seconds" } as const

const givenBy = ({ brokers, clientId, sasl, tls, requestTimeout }: ClientOptions): Given => ({
  brokers,
  clientId: clientId ?? defaults.clientId,
  requestTimeout: requestTimeout ?? defaults.requestTimeout,
  mechanism: sasl?.mechanism,
  username: sasl === undefined || sasl.mechanism === "OAUTHBEARER" ? undefined : sasl.username,
  password: sasl === undefined || sasl.mechanism === "OAUTHBEARER" ? undefined : sasl.password,
  token: sasl?.mechanism === "OAUTHBEARER" ? sasl.token : undefined,
  tls: tls === true ? {} : tls === false ? undefined : tls,
})

const optionNames: Names = {
  brokers: "brokers",
  clientId: "clientId",
  mechanism: "sasl.mechanism",
  username: "sasl.username",
  password: "sasl.password",
  token: "sasl.token",
  tls: "tls",
  cert: "tls.cert",
  key: "tls.key",
  requestTimeout: "requestTimeout",
}

const variables: Names = {
  brokers: "KAFKA_BROKERS",
  clientId: "KAFKA_CLIENT_ID",
  mechanism: "KAFKA_SASL_MECHANISM",
  username: "KAFKA_SASL_USERNAME",
  password: "KAFKA_SASL_PASSWORD",
  token: "KAFKA_SASL_TOKEN",
  tls: "KAFKA_TLS",
  cert: "KAFKA_TLS_CERT",
  key: "KAFKA_TLS_KEY",
  requestTimeout: "KAFKA_REQUEST_TIMEOUT",
}

const fromConfig = Effect.gen(function* () {
  const wrong: Array<string> = []
  /** The value of a variable; an empty one is as good as none. */
  const read = <A>(name: string, config: Config.Config<A>, problem: string): Effect.Effect<A | undefined> =>
    Effect.match(Config.option(config), {
      onSuccess: Option.getOrUndefined,
      onFailure: () => {
        wrong.push(`${name}: ${problem}`)
        return undefined
      },
    })
  const string = (name: string) =>
    Effect.map(read(name, Config.String(name), "cannot be read"), (text) => text === "" ? undefined : text)
  const secret = (name: string) => read<Redacted.Redacted>(name, Config.Redacted(name), "cannot be read")
  const file = Effect.fnUntraced(function* (name: string) {
    const path = yield* string(name)
    if (path === undefined) return undefined
    const text = yield* Effect.option(Effect.tryPromise(() => readFile(path, "utf8")))
    if (Option.isNone(text)) wrong.push(`${name}: the file ${path} cannot be read`)
    return Option.getOrUndefined(text)
  })
  const [ca, cert, key] = yield* Effect.all([file("KAFKA_TLS_CA"), file(variables.cert), file(variables.key)])
  const servername = yield* string("KAFKA_TLS_SERVERNAME")
  const wanted = yield* read(variables.tls, Config.Boolean(variables.tls), "must be true or false")
  return yield* settle(
    {
      brokers: (yield* string(variables.brokers))?.split(",").filter((broker) => broker.trim() !== "") ?? [],
      clientId: (yield* string(variables.clientId)) ?? defaults.clientId,
      mechanism: yield* string(variables.mechanism),
      username: yield* string(variables.username),
      password: yield* secret(variables.password),
      token: yield* secret(variables.token),
      tls: (wanted ?? ca !== undefined)
        ? {
          ...ca === undefined ? {} : { ca },
          ...cert === undefined ? {} : { cert },
          ...key === undefined ? {} : { key: Redacted.make(key) },
          ...servername === undefined ? {} : { servername },
        }
        : undefined,
      requestTimeout: (yield* read(
        variables.requestTimeout,
        Config.Duration(variables.requestTimeout),
        'must be a time, such as "30 seconds"',
      )) ?? defaults.requestTimeout,
    },
    variables,
    wrong,
  )
})
