/** Records as they come out of decoding: what is damaged fails, and stream time is the highest event time so far. */
import type { Came, Failure, Stream, Value } from "./Stream.ts"

export interface Decoding {
  readonly topic: string
  /** Where event time is: in the value's field `at`, or in Kafka's timestamp, where the contract has no event time. */
  readonly time: "value" | "kafka"
  /** How far event time may be ahead of arrival: `Decode.within`. */
  readonly ahead?: number
  /** As changes of a table: null values delete, and every record needs a key. */
  readonly isTable?: boolean
}

interface Reading {
  readonly id: string
  readonly n: number
  readonly at: number
}

/** What bytes hold, if it is what the contract promises. */
const parse = (text: string | null): Reading | undefined => {
  try {
    const { id, n, at } = JSON.parse(text ?? "")
    return typeof id === "string" && Number.isInteger(n) && Number.isInteger(at) ? { id, n, at } : undefined
  } catch {
    return undefined
  }
}

const isTime = (time: number) => time >= 0 && time < Infinity

export const decode =
  ({ topic, time, ahead = Infinity, isTable = false }: Decoding) => (all: ReadonlyArray<Came>): Stream => {
    const values: Array<Value> = []
    const failed: Array<Failure> = []
    const clock: Array<number> = []
    let now = -Infinity
    let offset = 0
    const places = all.map(({ silence }) => silence === undefined ? `${topic}@${offset++}` : `${topic}@tick`)
    for (const [row, { key, value, timestamp, changedAt, silence }] of all.entries()) {
      const fail = (reason: string) => void failed.push({ row, unit: {}, reason })
      if (silence !== undefined) now += silence
      else {
        const isGone = isTable && value === null
        const reading = isGone ? { id: "gone", n: 0, at: NaN } : parse(value)
        const own = (isTable ? changedAt : undefined) ??
          (time === "kafka" ? timestamp : isGone ? undefined : reading?.at)
        if (reading === undefined || isTable && key === null || own !== undefined && !isTime(own)) fail("DecodeError")
        else if (own !== undefined && own > timestamp + ahead) fail("FromTheFuture")
        else {
          // A deletion without a time of its own is of the topic's stream time.
          const at = own ?? Math.max(0, now)
          if (own !== undefined) now = Math.max(now, own)
          const { id, n } = reading
          values.push({ row, unit: {}, key, id, n, at, clock: now, ...isGone && { isGone } })
        }
      }
      clock.push(now)
    }
    const arrivals = all.map(({ timestamp, silence }) => silence === undefined ? timestamp : undefined)
    return { values, clock, places, arrivals, sent: [], failed, dropped: [] }
  }
