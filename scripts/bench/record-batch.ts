/** How fast record batches are written and read, beside the client's own functions: `node scripts/bench/record-batch.ts`. */
import { createRecordsBatch, Reader, readRecordsBatches } from "@platformatic/kafka"
import { Buffer } from "node:buffer"
import { decode } from "../../src/kafka/internal/FetchedRecords.ts"
import { encode } from "../../src/kafka/internal/RecordBatch.ts"

const count = 5_000
const value = Buffer.alloc(200, "v")
const keys = Array.from({ length: count }, (_, i) => Buffer.from(`user-${i}`))
const values = keys.map(() => Buffer.from(value))
const timestamps = keys.map((_, i) => 1_700_000_000_000 + i)
const records = { keys, values, timestamps, headers: keys.map(() => []) }
const messages = keys.map((key, i) => ({
  topic: "clicks",
  partition: 0,
  key,
  value: values[i]!,
  timestamp: BigInt(timestamps[i]!),
}))

/** Millions of records a second, the median of nine rounds. */
const rate = (batch: () => unknown): number => {
  const rounds = Array.from({ length: 9 }, () => {
    const began = process.hrtime.bigint()
    for (let i = 0; i < 20; i++) batch()
    return (20 * count * 1_000) / Number(process.hrtime.bigint() - began)
  })
  return rounds.sort((a, b) => a - b)[4]!
}

const plain = { compression: "none", transactional: false } as const
const fetched = Buffer.concat(Array.from({ length: 4 }, () => encode(records, plain)))
const writing = rate(() => encode(records, plain))
const writingByClient = rate(() => createRecordsBatch(messages).buffer)
const reading = 4 * rate(() => decode(fetched))
const readingByClient = 4 * rate(() => readRecordsBatches(Reader.from(fetched)))
const line = (name: string, ours: number, client: number) =>
  console.log(
    `${name}: ${ours.toFixed(2)} million records/s, ${(ours / client).toFixed(1)} times the client's ${
      client.toFixed(2)
    }`,
  )
line("write", writing, writingByClient)
line("read ", reading, readingByClient)
