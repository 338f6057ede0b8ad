/** JSON that Postgres takes: it holds neither the character NUL nor half a surrogate pair. */

/** The value as JSON text, with both replaced by U+FFFD wherever they stand. */
export const storable = (value: unknown): string => {
  const text = JSON.stringify(value)
  return suspect.test(text) ? JSON.stringify(cleaned(value)) : text
}

/** Escapes that may stand for one of them: JSON.stringify writes them no other way. */
const suspect = /\\u(0000|d[89a-f])/

const cleaned = (value: unknown): unknown => {
  if (typeof value === "string") return clean(value)
  if (Array.isArray(value)) return value.map(cleaned)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [clean(key), cleaned(inner)]))
}

/** The text as it is stored. */
export const clean = (text: string): string => text.replaceAll("\0", "\ufffd").toWellFormed()
