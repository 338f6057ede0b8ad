/**
 * A program's settings: read from the environment (or any `ConfigProvider`) all at once, with everything that is wrong
 * reported together in plain words, and documented from the same declaration.
 */
import { Config, Duration, Effect, Option, Redacted, Result, Schema } from "effect"

export interface Setting<out A> {
  /** The environment variable. */
  readonly name: string
  readonly doc: string
  /** As text, as it would be set; absent where the setting may be left out. */
  readonly fallback: string | undefined
  readonly secret: boolean
  /** The failure completes the sentence "NAME ...". */
  parse(text: string | undefined): Result.Result<A, string>
}

/** Everything that is wrong with a program's settings, one line each. */
export class SettingsError extends Schema.TaggedError<SettingsError>()("SettingsError", {
  message: Schema.String,
}) {}

interface About<F extends string | undefined> {
  readonly doc: string
  readonly fallback: F
}

type Parsed<A, F> = F extends string ? A : A | undefined

const make = <A, F extends string | undefined>(
  name: string,
  { doc, fallback }: About<F>,
  parse: (text: string) => Result.Result<A, string>,
  secret = false,
): Setting<Parsed<A, F>> => ({
  name,
  doc,
  fallback,
  secret,
  parse: (given) => {
    const text = given === undefined || given === "" ? fallback : given
    return (text === undefined ? Result.succeed(undefined) : parse(text)) as Result.Result<Parsed<A, F>, string>
  },
})

export const string = <F extends string | undefined>(name: string, about: About<F>): Setting<Parsed<string, F>> =>
  make(name, about, Result.succeed)

export const secret = <F extends string | undefined>(
  name: string,
  about: About<F>,
): Setting<Parsed<Redacted.Redacted<string>, F>> =>
  make(name, about, (text) => Result.succeed(Redacted.make(text)), true)

export const integer = <F extends string | undefined>(
  name: string,
  about: About<F> & { readonly least: number; readonly most: number },
): Setting<Parsed<number, F>> =>
  make(name, about, (text) => {
    const number = Number(text)
    return /^-?\d+$/.test(text) && number >= about.least && number <= about.most
      ? Result.succeed(number)
      : Result.fail(`must be a whole number from ${about.least} to ${about.most}`)
  })

export const boolean = <F extends string | undefined>(name: string, about: About<F>): Setting<Parsed<boolean, F>> =>
  make(name, about, (text) => {
    if (["true", "yes", "on", "1"].includes(text)) return Result.succeed(true)
    if (["false", "no", "off", "0"].includes(text)) return Result.succeed(false)
    return Result.fail("must be true or false")
  })

export const duration = <F extends string | undefined>(
  name: string,
  about: About<F>,
): Setting<Parsed<Duration.Duration, F>> =>
  make(name, about, (text) => {
    const match = /^(\d+(?:\.\d+)?)\s*(milli|second|minute|hour|day|week)(?:(?<=milli)second)?s?$/.exec(text)
    return match === null
      ? Result.fail('must be a time such as "30 minutes" or "24 hours"')
      : Result.succeed(Duration.fromInputUnsafe(`${Number(match[1])} ${match[2] as "second"}s`))
  })

export const choice = <const A extends string, F extends A | undefined>(
  name: string,
  about: { readonly doc: string; readonly fallback: F; readonly of: ReadonlyArray<A> },
): Setting<Parsed<A, F>> =>
  make<A, F>(name, about, (text) => {
    const chosen = about.of.find((one) => one === text)
    return chosen === undefined ? Result.fail(`must be one of ${about.of.join(", ")}`) : Result.succeed(chosen)
  })

/** Comma-separated. */
export const list = <A>(
  name: string,
  about: About<string>,
  item: (text: string) => Result.Result<A, string>,
): Setting<ReadonlyArray<A>> =>
  make(name, about, (text) => {
    const parts = text.split(",").map((part) => part.trim()).filter((part) => part !== "")
    return Result.all(parts.map(item))
  })

/** The same setting where it may be left out. */
export const optional = <A>(setting: Setting<A>): Setting<A | undefined> => ({
  ...setting,
  fallback: undefined,
  parse: (given) => given === undefined || given === "" ? Result.succeed(undefined) : setting.parse(given),
})

/** The same setting with another default. */
export const withFallback = <A>(setting: Setting<A>, fallback: string): Setting<A> => ({
  ...setting,
  fallback,
  parse: (given) => setting.parse(given === undefined || given === "" ? fallback : given),
})

/** The same setting with a condition on its value. */
export const checked = <A>(setting: Setting<A>, check: (value: A) => Result.Result<A, string>): Setting<A> => ({
  ...setting,
  parse: (given) => Result.flatMap(setting.parse(given), check),
})

/** What settings are read as. */
export type Values<S> = { readonly [K in keyof S]: S[K] extends Setting<infer A> ? A : never }

/** What must hold between settings. */
export interface Rule {
  /** The environment variables that it is about. */
  readonly names: ReadonlyArray<string>
  /** A sentence for what is wrong, given values by environment variable. */
  wrong(values: ReadonlyMap<string, unknown>): string | undefined
}

/** A rule that applies where a program has all these settings, and each of them can be used by itself. */
export const rule = <const S extends Readonly<Record<string, Setting<unknown>>>>(
  settings: S,
  wrong: (values: Values<S>) => string | undefined,
): Rule => ({
  names: Object.values(settings).map(({ name }) => name),
  wrong: (values) =>
    wrong(Object.fromEntries(Object.entries(settings).map(([key, { name }]) => [key, values.get(name)])) as Values<S>),
})

/** Reads all settings, or says everything that is wrong with them; a secret's value is never repeated. */
export const read = <const S extends Readonly<Record<string, Setting<unknown>>>>(
  settings: S,
  rules: ReadonlyArray<Rule> = [],
): Effect.Effect<Values<S>, SettingsError> =>
  Effect.gen(function* () {
    const values: Record<string, unknown> = {}
    const byName = new Map<string, unknown>()
    const wrong: Array<string> = []
    for (const [key, setting] of Object.entries(settings)) {
      const given = Option.getOrUndefined(
        yield* Effect.orElseSucceed(Config.option(Config.String(setting.name)), () => Option.none<string>()),
      )
      const parsed = setting.parse(given)
      if (Result.isSuccess(parsed)) {
        values[key] = parsed.success
        byName.set(setting.name, parsed.success)
      } else wrong.push(`${setting.name} ${parsed.failure}${setting.secret ? "" : ` (it is "${given}")`}`)
    }
    const applying = rules.filter(({ names }) => names.every((name) => byName.has(name)))
    wrong.push(...applying.flatMap((rule) => rule.wrong(byName) ?? []))
    if (wrong.length > 0) {
      return yield* new SettingsError({
        message: `these settings cannot be used:\n${wrong.map((line) => `  ${line}`).join("\n")}`,
      })
    }
    return values as Values<S>
  })

/** The rows of a Markdown table: name, default, meaning. */
export const table = (settings: Iterable<Setting<unknown>>): string =>
  [
    "| setting | default | meaning |",
    "| --- | --- | --- |",
    ...Array.from(settings, ({ name, fallback, doc }) =>
      `| \`${name}\` | ${fallback === undefined || fallback === "" ? "" : `\`${fallback}\``} | ${doc} |`),
  ].join("\n")

/** An example environment file: every setting, commented out, at its default. */
export const example = (settings: Iterable<Setting<unknown>>): string =>
  Array.from(settings, ({ name, fallback, doc }) => `# ${doc}\n# ${name}=${fallback ?? ""}\n`).join("\n")
