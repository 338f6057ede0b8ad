/**
 * A dead letter as it may be shown: what it says of the failure in full, and of the record its shape. A dead letter is by its
 * nature not what a contract says, so that no mark of a contract can be relied on: every text and number is masked.
 */
import { Buffer, isUtf8 } from "node:buffer"
import { attemptsHeader, originHeader } from "../../Redriven.ts"
import { text } from "../../Topic.ts"
import type { Letter } from "./Letter.ts"

/** A letter for people, as JSON. */
export interface Shown {
  readonly partition: number
  readonly offset: number
  readonly written: string
  readonly key: unknown
  readonly value: unknown
  /** The record's own headers. */
  readonly headers: ReadonlyArray<readonly [name: string, value: unknown]>
  /** What the letter says of the failure, with numbers as such. */
  readonly about: Readonly<Record<string, unknown>>
}

/** Shows a letter with everything of the record masked, keys and headers too. */
export const masked = (letter: Letter): Shown => shown(letter, hidden)

/** Shows a letter as it is. */
export const unmasked = (letter: Letter): Shown => shown(letter, plain)

const shown = (
  { partition, offset, timestamp, key, value, own, about }: Letter,
  show: (bytes: Uint8Array | null) => unknown,
): Shown => ({
  partition,
  offset,
  written: new Date(timestamp).toISOString(),
  key: show(key),
  value: show(value),
  headers: own.map(([name, value]) => [name, ofRedrive.has(name) ? said(name, value) : show(value)]),
  about: Object.fromEntries(
    Array.from(about, ([name, value]) => [name, ofFailure.has(name) ? said(name, value) : show(value)]),
  ),
})

/**
 * Headers that hold nothing of the record. Others are masked with it: messages and stack traces of other writers quote what
 * they could not read, and headers that nobody here knows can hold anything.
 */
const ofFailure: ReadonlySet<string> = new Set([
  ...["topic", "partition", "offset", "timestamp", "timestamp-type", "consumer-group"].map((what) =>
    `kafka_dlt-original-${what}`
  ),
  "kafka_dlt-exception-fqcn",
  "kafka_dlt-exception-cause-fqcn",
  ...["reason", "message", "field", "program", "version", "failed-at", "first-failed-at", "attempts", "made"].map((
    what,
  ) => `millrace-${what}`),
  ...["stage", "stage-topic", "stage-event-times"].map((what) => `millrace-${what}`),
  ...["length", "sha256", "key-length", "headers"].map((what) => `millrace-truncated-${what}`),
])

/** Headers that a redrive has added to the record. */
const ofRedrive: ReadonlySet<string> = new Set([attemptsHeader, originHeader])

const numbers: ReadonlySet<string> = new Set([
  "kafka_dlt-original-partition",
  "kafka_dlt-original-offset",
  "kafka_dlt-original-timestamp",
])

const said = (name: string, bytes: Uint8Array): unknown => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (numbers.has(name) && bytes.length === 8) return Number(view.getBigInt64(0))
  if (numbers.has(name) && bytes.length === 4) return view.getInt32(0)
  return isUtf8(bytes) ? text(bytes) : `${bytes.length} bytes`
}

/** Of JSON only objects and arrays as such: the text `007` is no number, and `null` is not nothing. */
const plain = (bytes: Uint8Array | null): unknown => {
  if (bytes === null) return null
  if (!isUtf8(bytes)) return { bytes: Buffer.from(bytes).toString("base64") }
  const json = parsed(bytes)
  return typeof json?.value === "object" && json.value !== null ? json.value : text(bytes)
}

/** The shape of JSON; of anything else its length. No digest: short texts could be guessed by it. */
const hidden = (bytes: Uint8Array | null): unknown => {
  if (bytes === null) return null
  const json = isUtf8(bytes) ? parsed(bytes) : undefined
  if (json !== undefined && typeof json.value === "object" && json.value !== null) return shapeOf(json.value)
  return `*** (${bytes.length} bytes)`
}

const parsed = (bytes: Uint8Array): { readonly value: unknown } | undefined => {
  try {
    return { value: JSON.parse(text(bytes)) }
  } catch {
    return undefined
  }
}

/** Names of fields that a program would choose; others can be personal data themselves. */
const isName = (name: string): boolean => /^[A-Za-z_$][A-Za-z_$-]{0,39}$/.test(name)

const shapeOf = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(shapeOf)
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value)
    return Object.fromEntries(fields.map(([name, of], i) => [isName(name) ? name : `*** ${i + 1}`, shapeOf(of)]))
  }
  if (typeof value === "string") return `*** (${value.length})`
  return typeof value === "number" ? "*** (number)" : value
}
