/** Real brokers for integration tests: one shared by a whole run, and those that a test stops, starts and sets up itself. */
import { describe } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { inject } from "vitest"
import { kafka, type Local, place } from "./BrokerProcess.ts"

/** What the run's global setup found. */
export interface Provided {
  /** The cluster that `KAFKA_BROKERS` names, if it does. */
  readonly brokers: ReadonlyArray<string> | undefined
  /** Where the broker of this run is, started when first asked for. */
  readonly local: Local
  /** Why no broker can be started here. */
  readonly missing: string | undefined
}

declare module "vitest" {
  interface ProvidedContext {
    kafka: Provided
  }
}

/** Undefined outside of vitest and where the global setup is not in use. */
const provided = (): Provided => {
  const found = inject("kafka")
  if (found === undefined) throw new Error("vitest's globalSetup must name test/support/globalSetup.ts")
  return found
}

/** A suite that needs a broker; left out where none can be had. With CI=true the global setup has failed before. */
export const describeWithBroker = (name: string, run: () => void) => {
  const { brokers, missing } = provided()
  return brokers === undefined && missing !== undefined ? describe.skip(name, run) : describe(name, run)
}

/** The same for suites that start brokers of their own. */
export const describeWithOwnBroker = (name: string, run: () => void) =>
  provided().missing === undefined ? describe(name, run) : describe.skip(name, run)

/** The address of the run's broker. */
export const shared: Effect.Effect<ReadonlyArray<string>> = Effect.suspend(() => {
  const { brokers, local } = provided()
  return brokers === undefined
    ? Effect.map(Effect.promise(() => kafka("start", local)), (bootstrap) => bootstrap.split(","))
    : Effect.succeed(brokers)
})

export interface OwnBroker {
  readonly brokers: ReadonlyArray<string>
  /** Where its data is. */
  readonly dir: string
  readonly start: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
  /** The listener with SASL and TLS, for brokers started with `--sasl`. */
  readonly secure: {
    readonly brokers: ReadonlyArray<string>
    readonly username: string
    readonly password: string
    /** The certificate, as PEM text. */
    readonly ca: Effect.Effect<string>
  }
}

/** A broker of the test's own, with options of `scripts/kafka/kafka`; it is gone with the scope. */
export const own = (...options: ReadonlyArray<string>): Effect.Effect<OwnBroker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const local = yield* Effect.acquireRelease(
      Effect.promise(place),
      (local) => Effect.promise(() => kafka("stop", local).then(() => rm(local.dir, { recursive: true, force: true }))),
    )
    const start = Effect.promise(() => kafka("start", local, options))
    const bootstrap = yield* start
    return {
      brokers: bootstrap.split(","),
      dir: local.dir,
      start: Effect.asVoid(start),
      stop: Effect.asVoid(Effect.promise(() => kafka("stop", local))),
      secure: {
        brokers: [`127.0.0.1:${local.port + 20}`],
        username: "millrace",
        password: "only-for-tests",
        ca: Effect.promise(() => readFile(join(local.dir, "tls/ca.pem"), "utf8")),
      },
    }
  })
