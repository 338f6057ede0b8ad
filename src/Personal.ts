/** Marks of personal data in the schemas of contracts: what a field tells of a person, and how it is to be masked. */
import type { Schema, SchemaAST } from "effect"

/** What takes the place of a value where it is masked: made by `Mask`. */
export type Policy =
  | { readonly _tag: "Drop" }
  | { readonly _tag: "Redact" }
  | { readonly _tag: "Replace"; readonly value: unknown }
  | { readonly _tag: "Tokenise"; readonly domain: string }
  | { readonly _tag: "Network" }
  | { readonly _tag: "KeepLast"; readonly count: number }

export interface Mark {
  /** What it tells, in a word of your own, such as `email`: a stage can say what becomes of all of a kind. */
  readonly category?: string
  /** What becomes of it where a stage says nothing about its category. */
  readonly policy?: Policy
}

const annotation = "millrace/personal"

/**
 * Marks what a schema describes as personal data, as a whole: of an object or array, everything in it. Mark the schema of
 * the decoded value. The schema is otherwise as it was.
 */
export const mark = <S extends Schema.Top>(schema: S, mark: Mark = {}): S["Rebuild"] =>
  schema.annotate({ [annotation]: mark })

/** The mark of one node of a schema: its own, or that of what it is decoded from. */
export const markOf = (ast: SchemaAST.AST): Mark | undefined => {
  for (const check of ast.checks?.toReversed() ?? []) {
    const mark = check.annotations?.[annotation]
    if (mark !== undefined) return mark as Mark
  }
  const own = ast.annotations?.[annotation]
  if (own !== undefined) return own as Mark
  for (const { to } of ast.encoding ?? []) {
    const mark = markOf(to)
    if (mark !== undefined) return mark
  }
  return undefined
}

/** Whether anything is marked in a schema, also in what it is decoded from. */
export const hasMarks = (ast: SchemaAST.AST, seen = new Set<SchemaAST.AST>()): boolean => {
  if (seen.has(ast)) return false
  seen.add(ast)
  return markOf(ast) !== undefined || [...partsOf(ast), ...(ast.encoding ?? []).map(({ to }) => to)]
    .some((part) => hasMarks(part, seen))
}

/** What a node of a schema is made of. */
export const partsOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.AST> => {
  switch (ast._tag) {
    case "Objects":
      return [
        ...ast.propertySignatures.map(({ type }) => type),
        ...ast.indexSignatures.flatMap(({ parameter, type }) => [parameter, type]),
      ]
    case "Arrays":
      return [...ast.elements, ...ast.rest]
    case "Union":
      return ast.types
    case "Declaration":
      return ast.typeParameters
    case "Suspend":
      return [ast.thunk()]
    default:
      return []
  }
}
