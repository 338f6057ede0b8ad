import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Redacted } from "effect"
import * as Settings from "../../src/ops/Settings.ts"

const settings = {
  port: Settings.integer("PORT", { doc: "Where to listen", fallback: "8080", least: 0, most: 65535 }),
  gap: Settings.duration("GAP", { doc: "Silence that ends a session", fallback: "30 minutes" }),
  keyBy: Settings.choice("KEY_BY", { doc: "What keys are", fallback: "user", of: ["user", "visitor"] }),
  database: Settings.secret("DATABASE_URL", { doc: "Where rows go", fallback: undefined }),
  sample: Settings.boolean("SAMPLE", { doc: "Feed the sample", fallback: "true" }),
}

const read = (env: Record<string, string>) =>
  Settings.read(settings).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env))))

describe("Settings", () => {
  it.effect("takes defaults for what is left out or empty", () =>
    Effect.gen(function* () {
      const values = yield* read({ PORT: "" })
      assert.strictEqual(values.port, 8080)
      assert.strictEqual(Duration.toMinutes(values.gap), 30)
      assert.strictEqual(values.keyBy, "user")
      assert.isUndefined(values.database)
      assert.isTrue(values.sample)
    }))

  it.effect("reads what is set", () =>
    Effect.gen(function* () {
      const values = yield* read({
        PORT: "0",
        GAP: "1.5 hours",
        KEY_BY: "visitor",
        DATABASE_URL: "postgres://x",
        SAMPLE: "no",
      })
      assert.deepStrictEqual([values.port, Duration.toMinutes(values.gap), values.keyBy, values.sample], [
        0,
        90,
        "visitor",
        false,
      ])
      assert.strictEqual(Redacted.value(values.database!), "postgres://x")
    }))

  it.effect("says everything that is wrong at once, in plain words", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(read({ PORT: "http", GAP: "soon", KEY_BY: "name", SAMPLE: "maybe" }))
      assert.strictEqual(
        error.message,
        [
          "these settings cannot be used:",
          '  PORT must be a whole number from 0 to 65535 (it is "http")',
          '  GAP must be a time such as "30 minutes" or "24 hours" (it is "soon")',
          '  KEY_BY must be one of user, visitor (it is "name")',
          '  SAMPLE must be true or false (it is "maybe")',
        ].join("\n"),
      )
    }))

  it.effect("reads times in units from milliseconds to weeks", () =>
    Effect.gen(function* () {
      const times = {
        "100 milliseconds": 100,
        "5 millis": 5,
        "1 second": 1_000,
        "2minutes": 120_000,
        "1.5 hours": 5_400_000,
        "1 week": 604_800_000,
      }
      for (const [text, millis] of Object.entries(times)) {
        assert.strictEqual(Duration.toMillis((yield* read({ GAP: text })).gap), millis, text)
      }
      for (const text of ["5", "seconds", "1 hoursecond", "-1 second", "1 month"]) {
        assert.include((yield* Effect.flip(read({ GAP: text }))).message, "GAP must be a time", text)
      }
    }))

  it("documents itself", () => {
    assert.include(Settings.table(Object.values(settings)), "| `GAP` | `30 minutes` | Silence that ends a session |")
    assert.include(Settings.example(Object.values(settings)), "# Where to listen\n# PORT=8080\n")
  })
})

describe("Settings between each other", () => {
  const { port, gap } = settings
  const rules = [
    Settings.rule(
      { port, gap },
      ({ port, gap }) => port > Duration.toMinutes(gap) ? "PORT must not be above GAP" : undefined,
    ),
    Settings.rule({ gap, other: Settings.string("OTHER", { doc: "", fallback: "" }) }, () => "never"),
  ]
  const readAll = (env: Record<string, string>) =>
    Settings.read(settings, rules).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(env))))

  it.effect("are reported with all else that is wrong, where each can be used by itself", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        (yield* Effect.flip(readAll({ PORT: "40", KEY_BY: "name" }))).message,
        'these settings cannot be used:\n  KEY_BY must be one of user, visitor (it is "name")\n  PORT must not be above GAP',
      )
      assert.notInclude((yield* Effect.flip(readAll({ PORT: "40", GAP: "soon" }))).message, "above GAP")
      assert.strictEqual((yield* readAll({ PORT: "20" })).port, 20)
    }))
})
