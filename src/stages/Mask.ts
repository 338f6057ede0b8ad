/** Personal data taken out of values, by the marks of their schema. */
import { Buffer } from "node:buffer"
import { Effect, Redacted, type Schema } from "effect"
import { ask, type Batch, keyBytes } from "../Batch.ts"
import { type Flow, perTask } from "../Flow.ts"
import type { Mark, Policy } from "../Personal.ts"
import { PipelineError } from "../Task.ts"
import type { Topic } from "../Topic.ts"
import { plan, type Rules } from "./masks/MaskPlan.ts"
import { checkKeyId, type OpenKey, openKey, tokenOf } from "./masks/MaskPolicy.ts"

export { network } from "./masks/MaskPolicy.ts"

/** Leaves a field out: it is absent where it may be, else null or undefined. Elements of arrays and entries of records go. */
export const drop: Policy = { _tag: "Drop" }

/** Puts `***` in the place of a text. */
export const redact: Policy = { _tag: "Redact" }

/** Puts a value in the place of any; the field's schema must take it. Null stays null. */
export const replace = (value: unknown): Policy => ({ _tag: "Replace", value })

/**
 * Puts a token in the place of a text: the same text has the same token, so that counts and joins by it still hold, and
 * only who has the key can find out whether a token stands for a text. Tokens of different domains cannot be joined.
 */
export const tokenise = (options?: { readonly domain?: string }): Policy => {
  const { domain = "" } = options ?? {}
  if (domain.includes("\0")) throw new RangeError("Mask.tokenise: a domain has no NUL in it")
  return { _tag: "Tokenise", domain }
}

/** Shortens an internet address to its network: IPv4 to /24, IPv6 to /48. Anything else becomes `***`. */
export const truncateIp: Policy = { _tag: "Network" }

/** Keeps the last characters of a text behind `***`; a text that has no more is hidden as a whole. */
export const keepLast = (count: number): Policy => {
  if (Number.isSafeInteger(count) && count >= 1) return { _tag: "KeepLast", count }
  throw new RangeError(`Mask.keepLast: count is a whole number of at least 1, not ${count}`)
}

/**
 * A key of tokens: its id stands in every token made with it, so that after a rotation the tokens of one key are told from
 * those of another. Different keys make different tokens of the same text.
 */
export interface Key<out E = never, out R = never> {
  /** 1 to 32 letters, digits, hyphens and underscores. */
  readonly id: string
  /** At least 16 bytes, better 32 from a generator of random numbers; or where it comes from, asked once per task. */
  readonly secret: Redacted.Redacted<string> | Effect.Effect<Redacted.Redacted<string>, E, R>
}

/** The token that a stage with this key makes of a text, to look somebody up by. */
export const token = (
  key: { readonly id: string; readonly secret: Redacted.Redacted<string> },
  text: string,
  options?: { readonly domain?: string },
): string => tokenOf(openKey(key.id, Redacted.value(key.secret)), text, options?.domain)

export interface Options<out E = never, out R = never> {
  /** Needed where anything is tokenised. */
  readonly key?: Key<E, R>
  /** What becomes of each category of data; before what its mark says. */
  readonly categories?: Readonly<Record<string, Policy>>
  /** What becomes of marked data that nothing else is said of: `redact` unless given. */
  readonly otherwise?: Policy
  /** The topic or schema that masked values must fit, where it is not the one with the marks. */
  readonly into?: Topic<unknown> | Schema.Top
  /** What becomes of records' own keys, which are the keys of what is delivered to topics that name none. Kept unless given. */
  readonly recordKey?: "tokenise" | "drop"
}

/**
 * Masks what is marked as personal data in the values of a topic or schema, at any depth: of each mark, by its category's
 * policy in the options, else its own, else `otherwise`. An inner mark goes before one around it. Order is kept, and values
 * keep their type: a policy that a marked field's type or schema does not allow is a `RangeError` when the stage is made,
 * and so is a schema without marks.
 *
 * What a record came as is not masked: dead letters, retries, and all that is delivered before this stage hold it in full.
 */
export const by = <A, E2 = never, R2 = never>(
  of: Topic<A> | Schema.Codec<A, unknown>,
  options: Options<E2, R2> = {},
) => {
  const { key, categories = {}, otherwise = redact, into, recordKey } = options
  const used = new Set<string>()
  let tokens = recordKey === "tokenise"
  const policyOf = ({ category, policy }: Mark): Policy => {
    const named = category === undefined ? undefined : categories[category]
    if (named !== undefined) used.add(category!)
    const chosen = named ?? policy ?? otherwise
    if (chosen._tag === "Tokenise") tokens = true
    return chosen
  }
  if (key !== undefined) checkKeyId(key.id)
  const rules: Omit<Rules, "key"> = { policyOf, keyId: key?.id ?? "", into: into && astOf(into) }
  const masker = (open: () => OpenKey) => {
    const made = plan(astOf(of), { ...rules, key: open })
    if (made === undefined) throw new RangeError("Mask.by: nothing in the schema is marked as personal data")
    return made as <A2 extends A>(value: A2) => A2
  }
  masker(() => {
    throw new Error("asked for no value")
  })
  const idle = Object.keys(categories).find((category) => !used.has(category))
  if (idle !== undefined) throw new RangeError(`Mask.by: nothing in the schema is marked as ${idle}`)
  if (tokens && key === undefined) throw new RangeError("Mask.by: tokens are made with a key, and none is given")
  if (key !== undefined && !Effect.isEffect(key.secret)) openKey(key.id, Redacted.value(key.secret))
  const opened: Effect.Effect<OpenKey | undefined, E2 | PipelineError, R2> = key === undefined
    ? Effect.succeed(undefined)
    : Effect.flatMap(
      Effect.isEffect(key.secret) ? key.secret : Effect.succeed(key.secret),
      (secret) =>
        Effect.try({
          try: () => openKey(key.id, Redacted.value(secret)),
          catch: (error) =>
            new PipelineError({ reason: "Definition", retriable: false, message: (error as RangeError).message }),
        }),
    )
  return <A2 extends A, F, E, R>(flow: Flow<A2, F, E, R>): Flow<A2, F, E | E2 | PipelineError, R | R2> =>
    perTask<A2, A2, never, never, never, E2 | PipelineError, R2>(
      Effect.map(opened, (key) => {
        const mask = masker(() => key!)
        return <G>(batch: Batch<A2, G>): Effect.Effect<Batch<A2, G>> =>
          Effect.sync(() => {
            const values = batch.values.map((_, i) => ask(mask, batch, i))
            return { ...batch, values, keys: recordKey === undefined ? batch.keys : maskedKeys(batch, recordKey, key) }
          })
      }),
      { stage: "mask" },
    )(flow)
}

const astOf = (of: Topic<unknown> | Schema.Top) => ("ast" in of ? of : of.schema).ast

const maskedKeys = (
  batch: Batch<unknown, unknown>,
  recordKey: "tokenise" | "drop",
  key: OpenKey | undefined,
): ReadonlyArray<Uint8Array | null> =>
  batch.values.map((_, i) => {
    const bytes = keyBytes(batch, i)
    return bytes === null || recordKey === "drop" ? null : Buffer.from(tokenOf(key!, bytes))
  })
