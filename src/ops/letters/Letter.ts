/** A dead letter as it says of itself: why its record failed, and where that belongs. */
import type { Headers } from "../../Batch.ts"
import * as Redriven from "../../Redriven.ts"
import * as Back from "../../stages/failures/Letters.ts"
import { text } from "../../Topic.ts"

export interface Letter {
  readonly partition: number
  readonly offset: number
  /** When it was written, in milliseconds since 1970. */
  readonly timestamp: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  /** The record's own headers. */
  readonly own: Headers
  /** Those that describe the failure, by name. */
  readonly about: ReadonlyMap<string, Uint8Array>
  readonly reason: string
  readonly program: string
  /** The stage that has given the record up, where it has a name. */
  readonly stage: string | undefined
  /** Where the record stood, and its timestamp; `undefined` for what never was a record. */
  readonly origin: Redriven.Place & { readonly timestamp: number } | undefined
  /** How often it was redriven before. */
  readonly attempts: number
}

interface Written {
  readonly partition: number
  readonly offset: number
  readonly timestamp: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: Headers
}

const originTopic = "kafka_dlt-original-topic"

/** Reads a dead letter of ours, or of another writer that names the origin as Spring Kafka does. Never fails. */
export const read = ({ headers, ...written }: Written): Letter => {
  const first = headers.findLastIndex(([name]) => name === originTopic)
  const reason = headers.findLastIndex(([name]) => name === "millrace-reason")
  const end = first === -1 ? reason === -1 ? headers.length : reason : first
  const own = headers.slice(0, end)
  const about = new Map(headers.slice(end))
  const said = (name: string) => {
    const bytes = about.get(name)
    return bytes && text(bytes)
  }
  return {
    ...written,
    own,
    about,
    reason: said("millrace-reason") ?? said("kafka_dlt-exception-fqcn") ?? "unknown",
    program: said("millrace-program") ?? "unknown",
    stage: said("millrace-stage"),
    origin: placeOf(about),
    attempts: Redriven.attemptsOf(own),
  }
}

/** A letter's header as text. */
export const said = ({ about }: Letter, name: string): string | undefined => {
  const bytes = about.get(name)
  return bytes && text(bytes)
}

/** Whether something of the record was cut or left out, because it was too large; `key`: whether only its key counts. */
export const isCut = ({ own, about }: Letter, what: "key" | "anything"): boolean => {
  const isSaid = (name: string) => about.has(name) || own.some(([other]) => other === name)
  return isSaid("millrace-truncated-key-length") ||
    what === "anything" && (isSaid("millrace-truncated-length") || isSaid("millrace-truncated-headers"))
}

/** Whether it holds what a fold has made of many records. */
export const isMade = ({ own, about }: Letter): boolean =>
  about.has(Back.madeHeader) || own.some(([name]) => name === Back.madeHeader)

const placeOf = (about: ReadonlyMap<string, Uint8Array>): Letter["origin"] => {
  const topic = about.get(originTopic)
  const partition = bigEndian(about.get("kafka_dlt-original-partition"), 4)
  const offset = bigEndian(about.get("kafka_dlt-original-offset"), 8)
  const timestamp = bigEndian(about.get("kafka_dlt-original-timestamp"), 8)
  return topic === undefined || partition === undefined || offset === undefined
    ? undefined
    : { topic: text(topic), partition, offset, timestamp: timestamp ?? -1 }
}

const bigEndian = (bytes: Uint8Array | undefined, length: 4 | 8): number | undefined => {
  if (bytes?.length !== length) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, length)
  return length === 4 ? view.getInt32(0) : Number(view.getBigInt64(0))
}
