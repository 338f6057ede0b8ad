/** Where two outcomes differ. */
import { inspect, isDeepStrictEqual } from "node:util"

/** The first place where two values differ, and what each has there; `undefined` where they are deeply equal. */
export const difference = (expected: unknown, actual: unknown, path = ""): string | undefined => {
  if (isDeepStrictEqual(expected, actual)) return undefined
  const [before, after] = [parts(expected), parts(actual)]
  if (before !== undefined && after !== undefined && before.kind === after.kind) {
    for (const name of new Set([...before.parts.keys(), ...after.parts.keys()])) {
      const at = before.kind === "Array" ? `${path}[${String(name)}]` : `${path}.${String(name)}`
      if (!before.parts.has(name)) return `${at} is ${shown(after.parts.get(name))} and should not be there`
      if (!after.parts.has(name)) return `${at} is missing, it should be ${shown(before.parts.get(name))}`
      const inside = difference(before.parts.get(name), after.parts.get(name), at)
      if (inside !== undefined) return inside
    }
  }
  return `${path === "" ? "it" : path} is ${shown(actual)} instead of ${shown(expected)}`
}

const shown = (value: unknown): string => inspect(value, { depth: 4, breakLength: Infinity, maxArrayLength: 10 })

interface Parts {
  readonly kind: string
  readonly parts: ReadonlyMap<unknown, unknown>
}

const parts = (value: unknown): Parts | undefined => {
  if (Array.isArray(value)) return { kind: "Array", parts: new Map(value.entries()) }
  if (value instanceof Map) return { kind: "Map", parts: value }
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return undefined
  return { kind: "Object", parts: new Map(Object.entries(value)) }
}
