/** What every program needs around it: settings, Kafka, the database, and a good end. */
import { readFileSync } from "node:fs"
import {
  Cause,
  ConfigProvider,
  Context,
  Duration,
  Effect,
  Exit,
  Layer,
  Redacted,
  References,
  Result,
  Schedule,
  Schema,
} from "effect"
import * as Names from "../clickstream/Names.ts"
import manifest from "../../package.json" with { type: "json" }
import { Failures, Kafka, Postgres, Settings } from "../index.ts"
import * as ClusterClient from "../kafka/ClusterClient.ts"
import { running } from "./processing.ts"
import { collectGarbageSooner } from "./memory.ts"
import * as Telemetry from "./telemetry.ts"

const broker = (text: string): Result.Result<string, string> =>
  /^(\[[0-9a-f:.]+\]|[^\s:/]+):\d{1,5}$/i.test(text)
    ? Result.succeed(text)
    : Result.fail("must be a list of host:port with commas between them")

/** The text of a PEM file. */
const pem = (name: string, doc: string): Settings.Setting<string | undefined> => ({
  ...Settings.string(name, { doc, fallback: undefined }),
  parse: (file) => {
    if (file === undefined || file === "") return Result.succeed(undefined)
    try {
      return Result.succeed(readFileSync(file, "utf8"))
    } catch {
      return Result.fail("must be a file that can be read")
    }
  },
})

/** Where Kafka is, and who we are to it. */
export const kafka = {
  brokers: Settings.list("KAFKA_BROKERS", {
    doc: "Some of the cluster's brokers, as host:port with commas between them",
    fallback: "localhost:9092",
  }, broker),
  clientId: Settings.string("KAFKA_CLIENT_ID", { doc: "How brokers name us in logs and quotas", fallback: "millrace" }),
  tls: Settings.boolean("KAFKA_TLS", { doc: "Whether connections to brokers are encrypted", fallback: "false" }),
  tlsCa: pem(
    "KAFKA_TLS_CA",
    "A PEM file with the authorities that brokers' certificates are trusted by, if not the system's",
  ),
  tlsCert: pem("KAFKA_TLS_CERT", "A PEM file with our own certificate"),
  tlsKey: pem("KAFKA_TLS_KEY", "A PEM file with the key of our certificate"),
  saslMechanism: Settings.choice("KAFKA_SASL_MECHANISM", {
    doc: "How we prove who we are",
    fallback: undefined,
    of: ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
  }),
  saslUsername: Settings.string("KAFKA_SASL_USERNAME", { doc: "The name to prove", fallback: undefined }),
  saslPassword: Settings.secret("KAFKA_SASL_PASSWORD", { doc: "The password that proves it", fallback: undefined }),
}

const postgresUrl = (url: Redacted.Redacted<string>): Result.Result<Redacted.Redacted<string>, string> => {
  const text = Redacted.value(url)
  const firstHost = text.replace(/,[^/?@]*(?=[/?]|$)/, "")
  if (!/^postgres(ql)?:\/\/\S+$/.test(text) || !URL.canParse(firstHost)) {
    return Result.fail("must be an address such as postgres://user:password@host:5432/database")
  }
  return /%(?![0-9a-f]{2})/i.test(text)
    ? Result.fail("must have %25 in the place of every single %")
    : Result.succeed(url)
}

/** Where the tables are. */
export const database = {
  databaseUrl: Settings.checked(
    Settings.secret("DATABASE_URL", {
      doc: "The Postgres database: postgres://user:password@host:port/database",
      fallback: "postgres://localhost:5432/millrace",
    }),
    postgresUrl,
  ),
  databaseConnections: Settings.integer("DATABASE_CONNECTIONS", {
    doc: "Connections that one program opens",
    fallback: "6",
    least: 1,
    most: 1000,
  }),
  databaseLockTimeout: Settings.duration("DATABASE_LOCK_TIMEOUT", {
    doc: "How long a transaction may stand idle or wait for a lock: less than a consumer group's session timeout",
    fallback: "5 seconds",
  }),
}

/** Which set of topics and tables, and how its records are keyed. */
export const naming = {
  prefix: Settings.checked(
    Settings.string("PREFIX", {
      doc:
        "Stands in front of all topics and tables: an import with topics and tables of its own. Lower-case letters, " +
        "digits and dashes, at most 32",
      fallback: "",
    }),
    Names.prefix,
  ),
  keyBy: Settings.choice("KEY_BY", {
    doc:
      "What orders events: user keeps a user's clicks together, visitor keeps a visit whole when its visitor logs in",
    fallback: "user",
    of: ["user", "visitor"],
  }),
}

/** What visitors' ids are made with where they are made of addresses. */
export const privacy = {
  hashKey: Settings.secret("HASH_KEY", {
    doc:
      "What visitors' ids are hashed with where they are made of addresses or anonymised: the same in all programs. " +
      "Without it, a collector makes a new one at every start, and an import one of its log's first line, which keeps " +
      "nothing from somebody who has the log",
    fallback: undefined,
  }),
}

const both = (names: ReadonlyArray<string>): string => `${names.join(" and ")} ${names.length === 1 ? "is" : "are"}`

const { databaseLockTimeout } = database
const { saslMechanism, saslUsername, saslPassword, tls, tlsCa, tlsCert, tlsKey } = kafka
const { sessionTimeout } = running

/** What must hold between the settings of every program that has them. */
export const rules: ReadonlyArray<Settings.Rule> = [
  Settings.rule({ saslMechanism, saslUsername, saslPassword }, (values) => {
    const credentials = [saslUsername, saslPassword] as const
    const given = [values.saslUsername, values.saslPassword]
    const named = (isGiven: boolean) =>
      credentials.filter((_, i) => (given[i] !== undefined) === isGiven).map(({ name }) => name)
    if (values.saslMechanism === undefined) {
      return named(true).length === 0 ? undefined : `${both(named(true))} of no use without ${saslMechanism.name}`
    }
    return named(false).length === 0 ? undefined : `${both(named(false))} needed with ${saslMechanism.name}`
  }),
  Settings.rule({ tls, tlsCa, tlsCert, tlsKey }, (values) => {
    const given = ([["tlsCa", tlsCa], ["tlsCert", tlsCert], ["tlsKey", tlsKey]] as const).flatMap(([key, { name }]) =>
      values[key] === undefined ? [] : [name]
    )
    return values.tls || given.length === 0 ? undefined : `${both(given)} of no use without ${tls.name}=true`
  }),
  Settings.rule({ tlsCert, tlsKey }, (values) => {
    if ((values.tlsCert === undefined) === (values.tlsKey === undefined)) return undefined
    const [given, missing] = values.tlsCert === undefined ? [tlsKey, tlsCert] : [tlsCert, tlsKey]
    return `${missing.name} is needed with ${given.name}`
  }),
  Settings.rule(
    { databaseLockTimeout, sessionTimeout },
    (values) =>
      Duration.isLessThan(values.databaseLockTimeout, values.sessionTimeout)
        ? undefined
        : `${databaseLockTimeout.name} (${Duration.format(values.databaseLockTimeout)}) must be less than ` +
          `${sessionTimeout.name} (${
            Duration.format(values.sessionTimeout)
          }): a process that is frozen must not hold ` +
          "locks when others have taken over",
  ),
]

export const layerKafka = (values: Settings.Values<typeof kafka>): Layer.Layer<Kafka.Cluster, Kafka.KafkaError> => {
  const { saslMechanism: mechanism, saslUsername: username, saslPassword: password } = values
  const { tlsCa: ca, tlsCert: cert, tlsKey: key } = values
  const layer = ClusterClient.layer({
    brokers: values.brokers,
    clientId: values.clientId,
    ...mechanism === undefined
      ? {}
      : { sasl: { mechanism, username: username ?? "", password: password ?? Redacted.make("") } },
    tls: values.tls && {
      ...ca === undefined ? {} : { ca },
      ...cert === undefined ? {} : { cert },
      ...key === undefined ? {} : { key: Redacted.make(key) },
    },
  })
  const greeted = Layer.tap(layer, (context) => greeting(Context.get(context, Kafka.Cluster)))
  return Layer.unwrap(Effect.as(Effect.logInfo(`Kafka: ${values.brokers.join(", ")}`), greeted))
}

/** Brokers that are still starting are waited for, and that is told. */
const greeting = ({ metadata }: Kafka.Cluster["Service"]): Effect.Effect<void, Kafka.KafkaError> => {
  const isAway = ({ code }: Kafka.KafkaError) => code === "NETWORK" || code === "TIMEOUT"
  const schedule = Schedule.spaced("1 second").pipe(Schedule.upTo({ duration: "15 seconds" }))
  return Effect.asVoid(Effect.catchIf(metadata([]), isAway, (error) =>
    Effect.andThen(
      Effect.logWarning(`${error.message}; trying again for 15 seconds`),
      Effect.retry(metadata([]), { schedule, while: isAway }),
    )))
}

export const layerDatabase = (values: Settings.Values<typeof database>) => {
  const url = URL.parse(Redacted.value(values.databaseUrl))
  const layer = Postgres.layer({
    url: values.databaseUrl,
    connections: values.databaseConnections,
    lockTimeout: values.databaseLockTimeout,
  })
  return Layer.unwrap(Effect.as(Effect.logInfo(`Postgres: ${url?.host ?? ""}${url?.pathname ?? ""}`), layer))
}

/** The environment, and below it the file `.env`, if there is one. */
const provider = (): ConfigProvider.ConfigProvider => {
  const environment = ConfigProvider.fromEnv()
  try {
    return ConfigProvider.orElse(environment, ConfigProvider.fromDotEnvContents(readFileSync(".env", "utf8")))
  } catch {
    return environment
  }
}

/** For so many seconds a second signal counts as the first one's: a terminal sends Ctrl-C to npm as well, which passes it on. */
const echo = 0.5

/**
 * Reads the settings and runs the program. The first SIGINT, SIGTERM or SIGHUP interrupts it, so that it finishes what is at hand
 * and the process ends with 0, or with what `process.exitCode` says; a second one ends it at once with 130. A failure is told
 * in its own words, and ends it with its `exitCode`, which is 1 where it has none.
 */
export const run = <const S extends Readonly<Record<string, Settings.Setting<unknown>>>, E extends Error>(
  name: string,
  settings: S,
  program: (values: Settings.Values<S>) => Effect.Effect<void, E>,
): void => {
  collectGarbageSooner()
  const main = Effect.gen(function* () {
    const all = yield* Settings.read({ ...Telemetry.settings, ...settings }, rules)
    const values = all as typeof all & Settings.Values<typeof Telemetry.settings>
    const telemetry = Telemetry.layer({ name, version: manifest.version }, values)
    yield* Effect.provide(program(all as Settings.Values<S>), telemetry).pipe(
      Effect.provideService(References.MinimumLogLevel, values.logLevel),
    )
  }).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, provider()),
    Effect.provideService(Failures.Program, { name, version: manifest.version }),
    Effect.provideService(References.LogToStderr, true),
  )
  const fiber = Effect.runFork(main)
  let stopping: number | undefined
  const stop = () => {
    const now = process.uptime()
    if (stopping === undefined) {
      stopping = now
      fiber.interruptUnsafe()
    } else if (now - stopping > echo) process.exit(130)
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop)
  fiber.addObserver((exit) => {
    if (Exit.isSuccess(exit) || stopping !== undefined && Cause.hasInterruptsOnly(exit.cause)) process.exit()
    const error = Cause.squash(exit.cause)
    const fails = Cause.hasFails(exit.cause)
    console.error(fails && error instanceof Error ? `${name}: ${error.message}` : Cause.pretty(exit.cause))
    process.exit(fails && error instanceof Error ? exitCodeOf(error) : 1)
  })
}

/** A program that has something to finish was told to stop before it had. */
class Stopped extends Schema.TaggedError<Stopped>()("Stopped", { message: Schema.String }) {}

/**
 * Runs a program that does one thing and ends: like `run`, but to be stopped before it has done it is a failure, which a
 * script must not take for an answer.
 */
export const tool: typeof run = (name, settings, program) =>
  run(
    name,
    settings,
    (values) =>
      Effect.onInterrupt(program(values), () => Effect.fail(new Stopped({ message: "stopped before it was done" }))),
  )

/** Errors that a script must tell apart say what their program ends with. */
const exitCodeOf = (error: Error): number =>
  "exitCode" in error && typeof error.exitCode === "number" ? error.exitCode : 1
