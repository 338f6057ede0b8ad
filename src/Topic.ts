/**
 * Topic contracts: what a topic holds, how it is keyed, how long it is kept. One value per topic is the single
 * declaration that decoding, producing, provisioning and the generated documents are derived from.
 */
import "effect/schema/SchemaJITCompiler/enable"
import { Buffer, isUtf8 } from "node:buffer"
import { Duration, Result, Schema, SchemaIssue } from "effect"
import * as JsonCodec from "./JsonCodec.ts"

/** How the broker discards records: by age or size, by key, or both. */
export type Cleanup = "delete" | "compact" | "compact,delete"

/**
 * The contract of one topic whose values are `A`.
 *
 * Event time is in the value: the Kafka timestamp of everything Millrace writes is the time of writing, because
 * brokers delete records by it and refuse timestamps from the future.
 */
export interface Topic<out A> {
  readonly name: string
  readonly description: string
  readonly owner: string
  readonly schema: Schema.Codec<A, unknown>
  /** What the key is, in words; `null` when records have none. */
  readonly key: string | null
  readonly partitions: number
  readonly cleanup: Cleanup
  /** How long records are kept; `undefined` for as long as their key lives (compaction only). */
  readonly retention: Duration.Duration | undefined
  /** The largest record batch the topic takes, in bytes (`max.message.bytes`). */
  readonly maxMessageBytes: number
  /** Further topic configuration, by Kafka's names. */
  readonly config: Readonly<Record<string, string>>
  keyOf(value: A): string | null
  /** Event time in milliseconds since 1970, or `undefined` to use the Kafka timestamp. */
  readonly eventTime: ((value: never) => number) | undefined
  /** Reads a record's value; the failure says which field is wrong and never repeats the value itself. */
  decode(bytes: Uint8Array | null): Result.Result<A, Invalid>
  /** Writes a value as it will stand in the topic. */
  encode(value: A): Result.Result<Uint8Array, Invalid>
}

export type Any = Topic<unknown>

/** Why bytes do not hold what the contract promises: the path of the field and a sentence without personal data. */
export interface Invalid {
  readonly field: string
  readonly message: string
}

export interface Options<A> {
  readonly name: string
  readonly description: string
  readonly owner: string
  readonly schema: Schema.Codec<A, unknown>
  readonly key?: readonly [description: string, of: (value: A) => string | null]
  readonly eventTime?: (value: A) => number
  readonly partitions: number
  readonly cleanup?: Cleanup
  readonly retention?: Duration.Input
  readonly maxMessageBytes?: number
  readonly config?: Readonly<Record<string, string>>
}

/** The broker's own default for `max.message.bytes`: 1 MiB plus the overhead of a record batch. */
export const defaultMaxMessageBytes = 1_048_588

/**
 * Declares a topic whose values are JSON. What JSON has no form for is written as the topic's JSON Schema says: dates as text,
 * numbers that are none as `"NaN"`, nothing as `null`; a value that has no form at all is refused.
 */
export const make = <A>(options: Options<A>): Topic<A> => {
  const codec = JsonCodec.of(options.schema)
  const decodeValue = Schema.decodeUnknownResult(codec)
  const encodeValue = Schema.encodeResult(codec)
  return contract(options, {
    decode: (bytes) => {
      if (bytes === null) return Result.fail({ field: "", message: "the value is null (a tombstone)" })
      if (!isUtf8(bytes)) return Result.fail({ field: "", message: "the value is not UTF-8 text" })
      let json: unknown
      try {
        json = JSON.parse(text(bytes))
      } catch {
        return Result.fail({ field: "", message: "the value is not JSON" })
      }
      return Result.mapError(decodeValue(json), invalid)
    },
    encode: (value) =>
      Result.mapBoth(encodeValue(value), {
        onSuccess: (encoded) => Buffer.from(JSON.stringify(encoded)),
        onFailure: invalid,
      }),
  })
}

/** Declares a topic whose values are taken as they are: dead letters, late records, changelogs. */
export const bytes = (options: Omit<Options<Uint8Array | null>, "schema" | "eventTime">): Topic<Uint8Array | null> =>
  contract({ ...options, schema: Raw }, { decode: Result.succeed, encode: (value) => Result.succeed(value!) })

const Raw: Schema.Codec<Uint8Array | null, unknown> = Schema.NullOr(Schema.Uint8Array)

const contract = <A>(o: Options<A>, format: Pick<Topic<A>, "decode" | "encode">): Topic<A> => ({
  name: o.name,
  description: o.description,
  owner: o.owner,
  schema: o.schema,
  key: o.key?.[0] ?? null,
  partitions: o.partitions,
  cleanup: o.cleanup ?? "delete",
  retention: o.retention === undefined ? undefined : Duration.fromInputUnsafe(o.retention),
  maxMessageBytes: o.maxMessageBytes ?? defaultMaxMessageBytes,
  config: o.config ?? {},
  keyOf: o.key?.[1] ?? (() => null),
  eventTime: o.eventTime,
  ...format,
})

/** The text of UTF-8 bytes. */
export const text = (bytes: Uint8Array): string =>
  (Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).toString("utf8")

const format = SchemaIssue.makeFormatterStandardSchemaV1()

/** What a schema refuses, without the value. */
export const invalid = (error: Schema.SchemaError): Invalid => {
  const issue = format(error.issue).issues[0]
  return {
    field: (issue?.path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join("."),
    message: issue?.message ?? "does not match the schema",
  }
}
