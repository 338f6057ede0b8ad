/** Which alternative of a union a value is, so that it is masked as that one. */
import { Schema, SchemaAST } from "effect"

type Masker = (value: unknown) => unknown

interface Alternative {
  readonly type: SchemaAST.AST
  readonly masker: Masker | undefined
}

type Kind = "null" | "undefined" | "string" | "number" | "boolean" | "bigint" | "symbol" | "array" | "object" | "any"

/**
 * Masks a value as the alternative that it is: told by its kind, then by a property that has another literal in each, then
 * by the schemas. Where it could be several, as one with marks rather than one without.
 */
export const either = (all: ReadonlyArray<Alternative>): Masker | undefined => {
  if (all.every(({ masker }) => masker === undefined)) return undefined
  const byKind = new Map<Kind, Masker | undefined>()
  for (const kind of ["string", "number", "boolean", "bigint", "symbol", "array", "object"] as const) {
    byKind.set(kind, among(all.filter(({ type }) => kindsOf(type).some((one) => one === kind || one === "any"))))
  }
  return (value) => {
    const masker = byKind.get(kindOf(value))
    return masker === undefined ? value : masker(value)
  }
}

const among = (all: ReadonlyArray<Alternative>): Masker | undefined => {
  if (all.every(({ masker }) => masker === undefined)) return undefined
  if (all.length === 1) return all[0]!.masker
  return byLiteral(all) ?? bySchema(all)
}

const byLiteral = (all: ReadonlyArray<Alternative>): Masker | undefined => {
  const names = all.map(({ type }) => literalsOf(type))
  const [tag] = [...names[0]?.keys() ?? []].filter((name) => names.every((own) => own.has(name)))
  if (tag === undefined) return undefined
  const byTag = new Map<unknown, Masker | undefined>()
  for (const literal of new Set(names.flatMap((own) => own.get(tag)!))) {
    const those = all.filter((_, i) => names[i]!.get(tag)!.includes(literal))
    if (those.length === all.length) return undefined
    byTag.set(literal, among(those))
  }
  const unknown = bySchema(all)
  return (value) => {
    const literal = (value as Readonly<Record<PropertyKey, unknown>>)[tag]
    if (!byTag.has(literal)) return unknown(value)
    const masker = byTag.get(literal)
    return masker === undefined ? value : masker(value)
  }
}

const bySchema = (all: ReadonlyArray<Alternative>): Masker => {
  const marked = all.flatMap(({ type, masker }) =>
    masker === undefined ? [] : [{ is: Schema.is(Schema.make(SchemaAST.toType(type))), masker }]
  )
  const others = all.filter(({ masker }) => masker === undefined)
    .map(({ type }) => Schema.is(Schema.make(SchemaAST.toType(type))))
  return (value) => {
    const masker = marked.find(({ is }) => is(value))?.masker
    if (masker !== undefined) return masker(value)
    // What fits none of its alternatives is masked all the same.
    return others.some((is) => is(value)) ? value : marked[0]!.masker(value)
  }
}

const kindOf = (value: unknown): Kind => {
  if (value === null) return "null"
  if (Array.isArray(value)) return "array"
  const type = typeof value
  return type === "function" ? "object" : type
}

const kindsOf = (ast: SchemaAST.AST): ReadonlyArray<Kind> => {
  switch (ast._tag) {
    case "Null":
      return ["null"]
    case "Undefined":
    case "Void":
      return ["undefined"]
    case "String":
    case "TemplateLiteral":
      return ["string"]
    case "Number":
      return ["number"]
    case "Boolean":
      return ["boolean"]
    case "BigInt":
      return ["bigint"]
    case "Symbol":
    case "UniqueSymbol":
      return ["symbol"]
    case "Literal":
      return [typeof ast.literal as Kind]
    case "Enum":
      return ast.enums.map(([, value]) => typeof value as Kind)
    case "Arrays":
      return ["array"]
    case "Objects":
      return ast.propertySignatures.length + ast.indexSignatures.length === 0 ? ["any"] : ["object"]
    case "Declaration":
      return ["object"]
    case "Union":
      return ast.types.flatMap(kindsOf)
    case "Suspend":
      return kindsOf(ast.thunk())
    default:
      return ["any"]
  }
}

/** By property: the literals that it can be, where it is nothing else. */
const literalsOf = (ast: SchemaAST.AST): ReadonlyMap<PropertyKey, ReadonlyArray<unknown>> => {
  if (ast._tag === "Suspend") return literalsOf(ast.thunk())
  if (ast._tag === "Declaration") return new Map(ast.typeParameters.flatMap((part) => [...literalsOf(part)]))
  if (ast._tag !== "Objects") return new Map()
  return new Map(ast.propertySignatures.flatMap(({ name, type }) => {
    const types = type._tag === "Union" ? type.types : [type]
    if (type.context?.isOptional || !types.every((one) => one._tag === "Literal")) return []
    return [[name, types.map((one) => one.literal)] as const]
  }))
}
