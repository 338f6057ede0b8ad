/** How values stand in JSON: as they are, but for what JSON has no form for. */
import { Schema, SchemaAST } from "effect"
import { partsOf } from "./Personal.ts"

/**
 * The codec between values and JSON, which is what their JSON Schema describes: dates are text, numbers that are none
 * `"NaN"`, nothing is `null`. A schema that needs none of this is used as it is: what JSON holds anyway costs no more, and
 * what has no schema (`Schema.Unknown`) is not looked into.
 */
export const of = <A>(schema: Schema.Codec<A, unknown>): Schema.Codec<A, unknown> =>
  isJson(schema.ast, new Set()) ? schema : Schema.toCodecJson(schema)

/** At most so many bytes is a value long as JSON, where its schema takes it as it is; `Infinity` for other than plain values. */
export const bound = (value: unknown): number => {
  switch (typeof value) {
    case "string":
      return 6 * value.length + 3
    case "number":
    case "boolean":
      return 27
    case "object": {
      if (value === null) return 5
      let sum = 3
      if (Array.isArray(value)) {
        for (const item of value) sum += bound(item)
        return sum
      }
      if (Object.getPrototypeOf(value) !== Object.prototype) return Infinity
      for (const name in value) sum += 6 * name.length + 3 + bound((value as Readonly<Record<string, unknown>>)[name])
      return sum
    }
    default:
      return Infinity
  }
}

const isJson = (ast: SchemaAST.AST, seen: Set<SchemaAST.AST>): boolean => {
  if (seen.has(ast)) return true
  seen.add(ast)
  if (ast.encoding !== undefined) return isJson(ast.encoding.at(-1)!.to, seen)
  switch (ast._tag) {
    case "Objects":
    case "Arrays":
    case "Union":
    case "Suspend":
      return partsOf(ast).every((part) => isJson(part, seen))
    case "Unknown":
    case "ObjectKeyword":
      return true
    default:
      return Schema.toCodecJson(Schema.make(ast)).ast === ast
  }
}
