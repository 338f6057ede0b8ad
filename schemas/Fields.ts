/** Fields that several contracts share. */
import { Schema } from "effect"
import { Personal } from "../src/index.ts"

/** Marks a field that can single out a person, for masking and for the documents made from contracts. */
export const personal = <S extends Schema.Top>(schema: S, description: string): S["Rebuild"] =>
  Personal.mark(schema).annotate({ description: `Personal data. ${description}` })

/** Optional as trackers mean it: absent or null. */
export const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** NUL and halves of surrogate pairs are refused: no database holds them, and ids that differ in nothing else would merge. */
export const Id = Schema.String.check(
  Schema.isNonEmpty(),
  Schema.isMaxLength(512),
  Schema.isPattern(/^[^\0\p{Cs}]*$/u, { message: "must not contain NUL or half of a surrogate pair" }),
)

/** Milliseconds since 1970, up to the year 9999. */
export const Millis = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 253_402_300_799_999 }))

const isoTime = /^\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?\s*(?:Z|[+-]\d\d:?\d\d)?)?$/i

/** ISO 8601 as trackers write it; without an offset it is UTC. */
export const Time = Schema.String.check(Schema.makeFilter(
  (text) => !Number.isNaN(millisOf(text)) || "must be a time in ISO 8601, such as 2026-05-17T10:05:03.000Z",
  { description: "a time in ISO 8601" },
))

/** The milliseconds since 1970 of a time in ISO 8601; NaN where it is none. */
export const millisOf = (text: string): number => {
  if (text.length === 24 && text.charCodeAt(23) === 90) return Date.parse(text)
  if (text.length > 64 || !isoTime.test(text)) return NaN
  const withSeparator = text.replace(" ", "T").replace(",", ".")
  return Date.parse(
    /T.*(?:Z|[+-]\d\d:?\d\d)$/i.test(withSeparator) || !withSeparator.includes("T")
      ? withSeparator
      : `${withSeparator}Z`,
  )
}

/** What a tracker or a page made up: names of its own choice. */
export const Open = Schema.Record(Schema.String, Schema.Unknown)
