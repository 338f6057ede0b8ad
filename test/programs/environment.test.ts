import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"
import { Settings } from "../../src/index.ts"
import { globSync, readFileSync } from "node:fs"
import { join } from "node:path"
import * as Environment from "../../src/programs/environment.ts"
import * as Processing from "../../src/programs/processing.ts"
import * as Server from "../../src/programs/server.ts"

const settings = { ...Environment.kafka, ...Environment.database, ...Environment.naming, ...Processing.running }
const file = "package.json"

/** What is said of these settings, line by line. */
const problems = (env: Record<string, string>) =>
  Settings.read(settings, Environment.rules).pipe(
    Effect.as<ReadonlyArray<string>>([]),
    Effect.catch((error) => Effect.succeed(error.message.split("\n").slice(1).map((line) => line.trim()))),
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env))),
  )

describe("the settings of programs", () => {
  it.effect.each<readonly [string, Record<string, string>, ReadonlyArray<string>]>([
    ["nothing", {}, []],
    ["credentials without a mechanism", { KAFKA_SASL_USERNAME: "a", KAFKA_SASL_PASSWORD: "b" }, [
      "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are of no use without KAFKA_SASL_MECHANISM",
    ]],
    ["a mechanism without a password", { KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "a" }, [
      "KAFKA_SASL_PASSWORD is needed with KAFKA_SASL_MECHANISM",
    ]],
    ["a mechanism alone", { KAFKA_SASL_MECHANISM: "PLAIN" }, [
      "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD are needed with KAFKA_SASL_MECHANISM",
    ]],
    ["all credentials", { KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "a", KAFKA_SASL_PASSWORD: "b" }, []],
    ["certificates without encryption", { KAFKA_TLS_CA: file, KAFKA_TLS_CERT: file, KAFKA_TLS_KEY: file }, [
      "KAFKA_TLS_CA and KAFKA_TLS_CERT and KAFKA_TLS_KEY are of no use without KAFKA_TLS=true",
    ]],
    ["a certificate without its key", { KAFKA_TLS: "true", KAFKA_TLS_CERT: file }, [
      "KAFKA_TLS_KEY is needed with KAFKA_TLS_CERT",
    ]],
    ["a key without its certificate", { KAFKA_TLS: "true", KAFKA_TLS_KEY: file }, [
      "KAFKA_TLS_CERT is needed with KAFKA_TLS_KEY",
    ]],
    ["encryption with all of it", { KAFKA_TLS: "true", KAFKA_TLS_CERT: file, KAFKA_TLS_KEY: file }, []],
    ["an address that is no database's", { DATABASE_URL: "secret" }, [
      "DATABASE_URL must be an address such as postgres://user:password@host:5432/database",
    ]],
    ["a database of another kind", { DATABASE_URL: "mysql://secret@host/db" }, [
      "DATABASE_URL must be an address such as postgres://user:password@host:5432/database",
    ]],
    ["a password that is not escaped", { DATABASE_URL: "postgres://me:100%@host/db" }, [
      "DATABASE_URL must have %25 in the place of every single %",
    ]],
    ["several hosts", { DATABASE_URL: "postgres://me:a,b@one:1,two:2/db" }, []],
    ["a database by its other name", { DATABASE_URL: "postgresql:///db?host=/run" }, []],
    ["a prefix that begins with a digit", { PREFIX: "2015-import" }, []],
    ["a prefix that brokers refuse", { PREFIX: "My Import" }, [
      "PREFIX must be at most 32 lower-case letters, digits and dashes, with no dash at either end " +
      '(it is "My Import")',
    ]],
    ["locks that outlive a session", { DATABASE_LOCK_TIMEOUT: "10 seconds", KAFKA_SASL_USERNAME: "a" }, [
      "KAFKA_SASL_USERNAME is of no use without KAFKA_SASL_MECHANISM",
      "DATABASE_LOCK_TIMEOUT (10s) must be less than SESSION_TIMEOUT (6s): a process that is frozen must not hold " +
      "locks when others have taken over",
    ]],
  ])("%s", ([, env, expected]) => Effect.map(problems(env), (found) => assert.deepStrictEqual(found, expected)))
})

describe("programs", () => {
  it.effect("listen on ports of their own with the same settings", () =>
    Effect.gen(function* () {
      const env = { PORT: "9000" }
      const read = Effect.all([Settings.read(Server.listening), Settings.read(Server.dashboard)])
      const ports = Effect.map(read, (both) => both.map(({ port }) => port))
      const provider = ConfigProvider.layer(ConfigProvider.fromUnknown(env))
      assert.deepStrictEqual(yield* Effect.provide(ports, provider), [9000, 8081])
    }))

  const programs = globSync(join(import.meta.dirname, "../../src/programs/*.ts"))
  it.each(programs.filter((file) => readFileSync(file, "utf8").includes("Runner.run(")))(
    "%s runs pipelines with its settings",
    (file) => assert.include(readFileSync(file, "utf8"), "Processing.runOptions(values)"),
  )
})
