/** Bytes as no broker should answer them: damaged ones yield no record that was not written, and none takes all memory. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { gzipSync, zstdCompressSync } from "node:zlib"
import type { FetchedBatch, Records } from "../../../src/kafka/Cluster.ts"
import { crc32c, maxDecompressed } from "../../../src/kafka/internal/Codec.ts"
import { decode } from "../../../src/kafka/internal/FetchedRecords.ts"
import { attribute, encode, field } from "../../../src/kafka/internal/RecordBatch.ts"
import { type Dice, forSeeds } from "../../support/Seeds.ts"

const compressions = ["none", "none", "gzip", "snappy", "lz4", "zstd"] as const

const someBytes = (dice: Dice, most: number) => Buffer.from(dice.list(0, most, () => dice.int(0, 255)))

const someRecords = (dice: Dice): Records => {
  const rows = dice.list(1, 12, (i) => i)
  return {
    keys: rows.map(() => dice.int(0, 3) === 0 ? null : someBytes(dice, 20)),
    values: rows.map(() => dice.int(0, 5) === 0 ? null : Buffer.alloc(dice.int(0, 200), dice.int(0, 255))),
    headers: rows.map(() => dice.list(0, 2, (h) => [`h${h}`, someBytes(dice, 5)] as const)),
    timestamps: rows.map(() => 1_700_000_000_000 + dice.int(-1_000, 1_000)),
  }
}

/** A log's batches one after the other, as a fetch answers them. */
const someLog = (dice: Dice): ReadonlyArray<Buffer> => {
  let offset = dice.int(0, 1_000)
  return dice.list(1, 5, () => {
    const records = someRecords(dice)
    const batch = encode(records, { compression: dice.pick(compressions), transactional: dice.int(0, 1) === 0 })
    batch.writeBigInt64BE(BigInt(offset), field.baseOffset)
    offset += records.keys.length + dice.int(0, 3)
    return batch
  })
}

/** Flips bits, overwrites, cuts off, takes out, puts in and repeats. */
const damaged = (dice: Dice, bytes: Buffer): Buffer => {
  const at = dice.int(0, bytes.length - 1)
  const length = dice.int(1, Math.min(300, bytes.length - at))
  switch (dice.pick(["bits", "bytes", "end", "out", "in", "again"])) {
    case "bits": {
      const flipped = Buffer.from(bytes)
      for (const _ of dice.list(1, 4, (i) => i)) flipped[dice.int(0, bytes.length - 1)]! ^= 1 << dice.int(0, 7)
      return flipped
    }
    case "bytes": {
      const written = Buffer.from(bytes)
      return written.fill(dice.pick([0x00, 0x7f, 0x80, 0xff]), at, at + length)
    }
    case "end":
      return bytes.subarray(0, at)
    case "out":
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)])
    case "in":
      return Buffer.concat([bytes.subarray(0, at), someBytes(dice, 40), bytes.subarray(at)])
    default:
      return Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)])
  }
}

/** All of a batch but where it begins, which its checksum does not cover. */
const contentOf = ({ baseOffset, lastOffset, offsets, ...rest }: FetchedBatch) =>
  JSON.stringify({ ...rest, last: lastOffset - baseOffset, offsets: offsets.map((offset) => offset - baseOffset) })

const inOrder = (batches: ReadonlyArray<FetchedBatch>, from: number) => {
  let next = from
  for (const { baseOffset, lastOffset, offsets } of batches) {
    assert.isAtLeast(lastOffset, next)
    for (const offset of offsets) assert.isTrue(offset >= baseOffset && offset <= lastOffset)
    next = lastOffset + 1
  }
}

describe("damaged batches", () => {
  it.effect("yield what was written or nothing, and never a record that was not written", () =>
    forSeeds(1_000, (dice) =>
      Effect.sync(() => {
        const log = someLog(dice)
        const whole = Buffer.concat(log)
        const from = Number(whole.readBigInt64BE(0))
        const written = decode(whole, from)
        assert.strictEqual(written.batches.length, log.length)
        const contents = new Set(written.batches.map(contentOf))
        let bytes: Buffer = whole
        for (const _ of dice.list(1, 3, (i) => i)) if (bytes.length > 0) bytes = damaged(dice, bytes)
        const read = decode(bytes, from)
        inOrder(read.batches, from)
        for (const batch of read.batches) assert.isTrue(contents.has(contentOf(batch)))
        // Nothing at all and no error would pass for a log without records.
        if (read.batches.length === 0 && bytes.length > 0) assert.isNotNull(read.error)
        assert.strictEqual(read.error !== null, read.message !== undefined)
      })))

  it.effect("whose checksum is right all the same are read as they are or refused, in bounded time and memory", () =>
    forSeeds(1_000, (dice) =>
      Effect.sync(() => {
        const [whole] = someLog(dice) as [Buffer]
        const lying = Buffer.from(whole)
        const from = dice.pick([field.attributes, field.records])
        for (const _ of dice.list(1, 4, (i) => i)) {
          lying[dice.int(from, lying.length - 1)] = dice.pick([0x00, 0x01, 0x7f, 0x80, 0xff, dice.int(0, 255)])
        }
        lying.writeUInt32BE(crc32c(lying.subarray(field.attributes)), field.crc)
        const { batches } = decode(lying, 0)
        inOrder(batches, 0)
        for (const { control, keys, offsets } of batches) {
          if (control === null) assert.strictEqual(keys.length, lying.readInt32BE(field.count))
          assert.strictEqual(keys.length, offsets.length)
        }
      })))

  /** A batch of these bytes in the place of compressed records. */
  const compressed = (bitmask: number, bytes: Buffer): Buffer => {
    const records = { keys: [null], values: [null], headers: [[]], timestamps: [0] }
    const header = encode(records, { compression: "none", transactional: false }).subarray(0, field.records)
    const batch = Buffer.concat([header, bytes])
    batch.writeInt32BE(batch.length - field.leaderEpoch, field.length)
    batch.writeInt16BE(bitmask & attribute.compression, field.attributes)
    batch.writeUInt32BE(crc32c(batch.subarray(field.attributes)), field.crc)
    return batch
  }
  const zeros = Buffer.alloc(1 << 20)
  const tooMany = maxDecompressed / zeros.length + 1
  const repeated = (bytes: Buffer) => Buffer.concat(new Array<Buffer>(tooMany).fill(bytes))
  /** Blocks of 4 MiB each. */
  const lz4 = Buffer.concat([
    Buffer.from([0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73]),
    ...new Array<Buffer>(Math.ceil(tooMany / 4) + 1).fill(
      Buffer.concat([Buffer.from([0, 0x80, 0, 0]), Buffer.alloc(0x8000)]),
    ),
  ])
  const bombs: ReadonlyArray<readonly [codec: string, bitmask: number, bytes: Buffer, error: string]> = [
    ["gzip", 1, repeated(gzipSync(zeros)), "MESSAGE_TOO_LARGE"],
    ["zstd", 4, repeated(zstdCompressSync(zeros)), "MESSAGE_TOO_LARGE"],
    ["lz4", 3, lz4, "MESSAGE_TOO_LARGE"],
    ["snappy", 2, Buffer.concat([Buffer.from([0x80, 0x80, 0x80, 0x60]), Buffer.alloc(8 << 20)]), "MESSAGE_TOO_LARGE"],
    ["snappy that says what cannot be", 2, Buffer.from([0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]), "CORRUPT_MESSAGE"],
  ]
  it.each(bombs)("that would take all memory are refused before they do: %s", (_, bitmask, bytes, error) => {
    const before = process.memoryUsage().rss
    const read = decode(compressed(bitmask, bytes), 0)
    assert.deepStrictEqual([read.error, read.batches.length], [error, 0])
    assert.isBelow(process.memoryUsage().rss - before, 2 * maxDecompressed)
  })
})
