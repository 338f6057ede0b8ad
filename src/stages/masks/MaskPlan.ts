/** From the marks of a schema to a function that masks its values: made once, so that values are only walked. */
import { Option, Schema, SchemaAST } from "effect"
import { hasMarks, type Mark, markOf, partsOf, type Policy } from "../../Personal.ts"
import { examples, onText, type OpenKey, redacted } from "./MaskPolicy.ts"
import { either } from "./MaskUnion.ts"

export type Masker = (value: unknown) => unknown

/** What is decided outside the schema. */
export interface Rules {
  policyOf(mark: Mark): Policy
  readonly keyId: string
  /** Only called for values. */
  key(): OpenKey
  /** The schema that masked values must fit, where it is not the one that has the marks. */
  readonly into: SchemaAST.AST | undefined
}

/** Stands for a value that is to be left out. */
export const absent = Symbol("absent")

/** Where a node of the schema stands. */
interface Place {
  readonly path: string
  /** The policy of a mark around it. */
  readonly policy: Policy | undefined
  /** What stands for a value that is dropped here; none where nothing can. */
  readonly dropped: { readonly as: unknown } | undefined
  /** What masked values must fit: nothing where they are in the way of nothing. */
  readonly fits: ReadonlyArray<SchemaAST.AST> | undefined
}

/** A function that masks values of a schema; none where nothing in it is marked. Throws a `RangeError` where it cannot. */
export const plan = (ast: SchemaAST.AST, rules: Rules): Masker | undefined => {
  if (!hasMarks(ast)) return undefined
  return new Plan(rules).of(ast, {
    path: "",
    policy: undefined,
    dropped: undefined,
    fits: rules.into && [rules.into],
  })
}

class Plan {
  readonly #rules: Rules
  /** Recursive schemas, by node and the policy around it. */
  readonly #known = new Map<SchemaAST.AST, Map<Policy | undefined, { masker: Masker | undefined }>>()

  constructor(rules: Rules) {
    this.#rules = rules
  }

  of(ast: SchemaAST.AST, place: Place): Masker | undefined {
    const mark = markOf(ast)
    const policy = mark === undefined ? place.policy : this.#rules.policyOf(mark)
    if (policy === undefined && !hasMarks(ast)) return undefined
    refuseHidden(ast, place)
    if (policy?._tag === "Drop") return this.#dropping(ast, place)
    if (policy?._tag === "Replace") return this.#replacing(ast, place, policy.value)
    return this.#inside(ast, { ...place, policy })
  }

  #dropping(ast: SchemaAST.AST, place: Place): Masker {
    const { as } = place.dropped ?? holes(ast) ??
      refuse(place, "it cannot be dropped, for nothing may stand in its place")
    return as === absent ? () => absent : (value) => value === null || value === undefined ? value : as
  }

  #replacing(ast: SchemaAST.AST, place: Place, value: unknown): Masker {
    if (!fits(ast, place, value)) refuse(place, "its schema does not take what is to replace it")
    return (before) => before === null || before === undefined ? before : value
  }

  #inside(ast: SchemaAST.AST, place: Place): Masker | undefined {
    const { policy } = place
    switch (ast._tag) {
      case "String":
      case "TemplateLiteral":
        return policy && this.#text(ast, place, policy)
      case "Literal":
        return policy && (typeof ast.literal === "string" ? this.#text(ast, place, policy) : unfit(place, policy))
      case "Enum":
        return policy &&
          (ast.enums.every(([, value]) => typeof value === "string")
            ? this.#text(ast, place, policy)
            : unfit(place, policy))
      case "Unknown":
      case "Any": {
        const text = policy && this.#text(ast, place, policy)
        return text &&
          ((value) =>
            value === null || value === undefined ? value : typeof value === "string" ? text(value) : redacted)
      }
      case "Null":
      case "Undefined":
      case "Void":
      case "Never":
        return undefined
      case "Objects":
        return this.#object(ast, place)
      case "Arrays":
        return this.#array(ast, place)
      case "Union": {
        const dropped = place.dropped ?? holes(ast)
        return either(ast.types.map((type) => ({ type, masker: this.of(type, { ...place, dropped }) })))
      }
      case "Suspend":
        return this.#recursive(ast.thunk(), place)
      case "Declaration":
        if (isClass(ast)) return this.of(ast.typeParameters[0]!, place)
        if (isOption(ast)) {
          const inner = this.of(ast.typeParameters[0]!, { ...place, dropped: { as: absent }, fits: place.fits && [] })
          return inner && ((value) => {
            if (!Option.isOption(value) || Option.isNone(value)) return value
            const masked = inner(value.value)
            return masked === absent ? Option.none() : Option.some(masked)
          })
        }
        return policy === undefined
          ? refuse(place, "marks inside this kind of value are out of reach")
          : unfit(place, policy)
      default:
        return policy && unfit(place, policy)
    }
  }

  #text(ast: SchemaAST.AST, place: Place, policy: Policy): Masker {
    const text = onText(policy, this.#rules.key)!
    for (const example of examples(policy, this.#rules.keyId)) {
      if (!fits(ast, place, example)) {
        refuse(place, `its schema does not take ${JSON.stringify(example)}, such as it would become`)
      }
    }
    return (value) => typeof value === "string" ? text(value) : value
  }

  #object(ast: SchemaAST.Objects, place: Place): Masker | undefined {
    const own = ast.propertySignatures.flatMap(({ name, type }) => {
      const masker = this.of(type, {
        path: place.path === "" ? String(name) : `${place.path}.${String(name)}`,
        policy: place.policy,
        dropped: type.context?.isOptional ? { as: absent } : undefined,
        fits: place.fits && inProperty(place.fits, name),
      })
      return masker === undefined ? [] : [[name, masker] as const]
    })
    const others = ast.indexSignatures.map(({ parameter, type }) => {
      const path = `${place.path}.*`
      const entry = { path, policy: place.policy, dropped: { as: absent }, fits: place.fits && inEntries(place.fits) }
      return {
        is: Schema.is(Schema.make(SchemaAST.toType(parameter))),
        key: this.#name(parameter, { ...entry, policy: undefined }),
        value: this.of(type, entry),
      }
    })
    const hasOthers = others.some(({ key, value }) => key !== undefined || value !== undefined)
    if (own.length === 0 && !hasOthers) return undefined
    const names = new Set<PropertyKey>(ast.propertySignatures.map(({ name }) => name))
    return (value) => {
      if (typeof value !== "object" || value === null) return value
      let copy: Record<PropertyKey, unknown> | undefined
      for (const [name, masker] of own) {
        const before = (value as typeof copy)![name]
        if (before === undefined && !(name in value)) continue
        const after = masker(before)
        if (after === before) continue
        copy ??= copyOf(value)
        if (after === absent) delete copy[name]
        else copy[name] = after
      }
      if (!hasOthers) return copy ?? value
      const masked = copy ?? copyOf(value)
      for (const name of Object.keys(masked)) {
        if (names.has(name)) continue
        const before = masked[name]
        const entry = others.find(({ is }) => is(name))
        const after = entry?.value === undefined ? before : entry.value(before)
        const renamed = entry?.key === undefined ? name : entry.key(name)
        if (after === before && renamed === name) continue
        delete masked[name]
        if (after !== absent) define(masked, renamed, after)
      }
      return masked
    }
  }

  /** Names of a record can only be tokenised: any other policy would make one of several. */
  #name(parameter: SchemaAST.AST, place: Place): ((name: string) => string) | undefined {
    const mark = markOf(parameter)
    if (mark === undefined) return undefined
    const policy = this.#rules.policyOf(mark)
    if (policy._tag !== "Tokenise") refuse(place, "the names of a record can only be tokenised")
    return this.#text(parameter, { ...place, fits: place.fits && [] }, policy) as (name: string) => string
  }

  #array(ast: SchemaAST.Arrays, place: Place): Masker | undefined {
    const item = (type: SchemaAST.AST, at: string, dropped: Place["dropped"]) =>
      this.of(type, {
        path: `${place.path}[${at}]`,
        policy: place.policy,
        dropped,
        fits: place.fits && inItems(place.fits),
      })
    const first = ast.elements.map((type, i) => item(type, String(i), undefined))
    const [rest, ...last] = ast.rest.map((type, i) => item(type, "", i === 0 ? { as: absent } : undefined))
    if ([...first, rest, ...last].every((masker) => masker === undefined)) return undefined
    return (value) => {
      if (!Array.isArray(value)) return value
      const masked: Array<unknown> = []
      for (let i = 0; i < value.length; i++) {
        const fromEnd = i - (value.length - last.length)
        const masker = i < first.length ? first[i] : fromEnd >= 0 ? last[fromEnd] : rest
        const after = masker === undefined ? value[i] : masker(value[i])
        if (after !== absent) masked.push(after)
      }
      return masked
    }
  }

  #recursive(ast: SchemaAST.AST, place: Place): Masker {
    const byPolicy = this.#known.get(ast) ?? new Map<Policy | undefined, { masker: Masker | undefined }>()
    this.#known.set(ast, byPolicy)
    let known = byPolicy.get(place.policy)
    if (known === undefined) {
      byPolicy.set(place.policy, known = { masker: undefined })
      known.masker = this.of(ast, place)
    }
    const found = known
    return (value) => found.masker === undefined ? value : found.masker(value)
  }
}

/** What may stand in the place of a value that is dropped. */
const holes = (ast: SchemaAST.AST): Place["dropped"] => {
  const types = ast._tag === "Union" ? ast.types : [ast]
  if (types.some(({ _tag }) => _tag === "Null")) return { as: null }
  return types.some(({ _tag }) => _tag === "Undefined") ? { as: undefined } : undefined
}

/** Marks that stand only in what a value is decoded from would go unseen. */
const refuseHidden = (ast: SchemaAST.AST, place: Place): void => {
  if (ast.encoding === undefined || markOf(ast) !== undefined || partsOf(ast).some((part) => hasMarks(part))) return
  if (ast.encoding.some(({ to }) => hasMarks(to))) {
    refuse(place, "what it is decoded from has marks, and it has none itself: mark what is decoded")
  }
}

const refuse = ({ path }: Place, why: string): never => {
  throw new RangeError(`Mask: ${path === "" ? "the value" : path} is or holds personal data, and ${why}`)
}

const unfit = (place: Place, { _tag }: Policy): never =>
  refuse(place, `${_tag} is for text, which it is not: drop it, replace it, or give it another policy`)

/** Whether a masked value may stand where a node does. */
const fits = (ast: SchemaAST.AST, { fits = [ast] }: Place, value: unknown): boolean =>
  fits.length === 0 || fits.some((fit) => Schema.is(Schema.make(SchemaAST.toType(fit)))(value))

const isClass = (ast: SchemaAST.Declaration): boolean =>
  ast.annotations?.["~constructor"] !== undefined && ast.typeParameters.length === 1

const isOption = (ast: SchemaAST.Declaration): boolean =>
  (ast.annotations?.["representation"] as { readonly id?: string } | undefined)?.id === "effect/schema/Option"

/** The alternatives of schemas, without the wrapping. */
const unwrapped = (asts: ReadonlyArray<SchemaAST.AST>): ReadonlyArray<SchemaAST.AST> =>
  asts.flatMap((ast) => {
    if (ast._tag === "Union") return unwrapped(ast.types)
    if (ast._tag === "Suspend") return unwrapped([ast.thunk()])
    return ast._tag === "Declaration" && isClass(ast) ? unwrapped(ast.typeParameters) : [ast]
  })

const inProperty = (asts: ReadonlyArray<SchemaAST.AST>, name: PropertyKey): ReadonlyArray<SchemaAST.AST> =>
  unwrapped(asts).flatMap((ast) => {
    if (ast._tag !== "Objects") return []
    const own = ast.propertySignatures.find((property) => property.name === name)
    return own === undefined ? ast.indexSignatures.map(({ type }) => type) : [own.type]
  })

const inEntries = (asts: ReadonlyArray<SchemaAST.AST>): ReadonlyArray<SchemaAST.AST> =>
  unwrapped(asts).flatMap((ast) => ast._tag === "Objects" ? ast.indexSignatures.map(({ type }) => type) : [])

const inItems = (asts: ReadonlyArray<SchemaAST.AST>): ReadonlyArray<SchemaAST.AST> =>
  unwrapped(asts).flatMap((ast) => ast._tag === "Arrays" ? [...ast.elements, ...ast.rest] : [])

/** A copy of its own kind. */
const copyOf = (value: object): Record<PropertyKey, unknown> => {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype ? { ...value } : Object.assign(Object.create(prototype), value)
}

/** Sets a property, also one of a name that means something else in an assignment. */
const define = (on: object, name: string, value: unknown): void => {
  Object.defineProperty(on, name, { value, enumerable: true, configurable: true, writable: true })
}
