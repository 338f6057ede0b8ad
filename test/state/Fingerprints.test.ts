import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { FingerprintIndex } from "../../src/state/FingerprintIndex.ts"
import { codec, Fingerprints, words, write } from "../../src/state/Fingerprints.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const fingerprint = (id: string): Int32Array => {
  const words32 = new Int32Array(words)
  write(id, words32)
  return words32
}

/** Fingerprints that differ in few bits, so that many want the same slot. */
const crowded = (dice: Dice): Int32Array => Int32Array.of(dice.int(0, 3) * 1024, 0, 0, dice.int(0, 39))

describe("Fingerprints", () => {
  it("are the first 128 bits of SHA-256", () => {
    // FIPS 180-4's example "abc": ba7816bf 8f01cfea 414140de 5dae2223 ..., read little endian.
    assert.deepStrictEqual([...fingerprint("abc")].map((word) => word >>> 0), [
      0xbf1678ba,
      0xeacf018f,
      0xde404141,
      0x2322ae5d,
    ])
  })

  it("come back from the log as they were", () => {
    const some = new Fingerprints()
    for (let i = 0; i < 100; i++) some.push(fingerprint(`id-${i}`), 2 ** 52 + i)
    const text = Schema.encodeSync(codec)(some)
    some.trim()
    assert.deepStrictEqual(Schema.decodeSync(codec)(text), some)
    assert.strictEqual(Schema.encodeSync(codec)(some), text)
  })
})

describe("FingerprintIndex", () => {
  it.effect("finds what was added and not deleted, and nothing else", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const chunks = [new Fingerprints()]
        const index = new FingerprintIndex((number) => chunks[number]!)
        const known = new Map<string, readonly [chunk: number, place: number]>()
        for (let step = 0; step < 200; step++) {
          const one = crowded(dice)
          const at = known.get(String(one))
          assert.strictEqual(index.find(one, 0), at !== undefined)
          if (at !== undefined) {
            assert.deepStrictEqual([index.chunk, index.place], [...at])
            if (dice.int(0, 1) === 0) continue
            index.delete(...at)
            known.delete(String(one))
          } else {
            if (dice.int(0, 9) === 0) chunks.push(new Fingerprints())
            const last = chunks.length - 1
            chunks[last]!.push(one, step)
            index.add(last, chunks[last]!.length - 1)
            known.set(String(one), [last, chunks[last]!.length - 1])
          }
          assert.strictEqual(index.size, known.size)
        }
      })))

  it("deletes a fingerprint only as the one it is known as", () => {
    const chunks = [new Fingerprints(), new Fingerprints()]
    const index = new FingerprintIndex((number) => chunks[number]!)
    for (const chunk of chunks) chunk.push(fingerprint("a"), 0)
    index.add(1, 0)
    index.delete(0, 0)
    assert.isTrue(index.find(fingerprint("a"), 0))
    index.delete(1, 0)
    assert.isFalse(index.find(fingerprint("a"), 0))
  })
})
