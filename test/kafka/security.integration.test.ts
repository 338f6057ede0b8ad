/** Encryption and authentication, against a broker that asks for both. */
import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { Cluster } from "../../src/kafka/Cluster.ts"
import * as ClusterClient from "../../src/kafka/ClusterClient.ts"
import * as Broker from "../support/Broker.ts"

Broker.describeWithOwnBroker("SASL_SSL", () => {
  it.live(
    "takes the right password over TLS, and says what is wrong with anything else",
    () =>
      Effect.gen(function* () {
        const { secure } = yield* Broker.own("--sasl")
        const ca = yield* secure.ca
        const ask = (options: Partial<ClusterClient.ClientOptions>) =>
          Cluster.use((cluster) => cluster.metadata([])).pipe(
            Effect.provide(ClusterClient.layer({ brokers: secure.brokers, requestTimeout: "10 seconds", ...options })),
          )
        const sasl = (mechanism: "PLAIN" | "SCRAM-SHA-512", password = secure.password) => ({
          mechanism,
          username: secure.username,
          password: Redacted.make(password),
        })
        for (const mechanism of ["PLAIN", "SCRAM-SHA-512"] as const) {
          const metadata = yield* ask({ sasl: sasl(mechanism), tls: { ca } })
          assert.strictEqual(metadata.brokers.length, 1)
          const wrong = yield* Effect.flip(ask({ sasl: sasl(mechanism, "not-the-password"), tls: { ca } }))
          assert.strictEqual(wrong.code, "AUTHENTICATION", wrong.message)
          assert.notInclude(wrong.message, "not-the-password")
          assert.include(wrong.message, "127.0.0.1")
          assert.include(wrong.message, "check the SASL mechanism, user name and password")
        }
        const untrusted = yield* Effect.flip(ask({ sasl: sasl("PLAIN"), tls: true }))
        assert.strictEqual(untrusted.code, "AUTHENTICATION", untrusted.message)
        assert.match(untrusted.message, /certificate/i)
        const unencrypted = yield* Effect.flip(ask({ sasl: sasl("PLAIN"), requestTimeout: "3 seconds" }))
        assert.include(["AUTHENTICATION", "NETWORK", "TIMEOUT"], unencrypted.code, unencrypted.message)
        assert.notInclude(unencrypted.message, secure.password)
      }),
    90_000,
  )
})
