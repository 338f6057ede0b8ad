import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Buffer } from "node:buffer"
import { halfSipHash, hashOfBytes, hashOfText, isKey } from "../../src/state/KeyHash.ts"
import { KeyTable, Slot } from "../../src/state/KeyTable.ts"
import { forSeeds } from "../support/Seeds.ts"

describe("KeyHash", () => {
  it("is HalfSipHash-1-3: the first test vectors of the Linux kernel", () => {
    const bytes = Uint8Array.from({ length: 12 }, (_, i) => i)
    const hashes = Array.from(bytes, (length) => halfSipHash(bytes, length, 0x03020100, 0x07060504) >>> 0)
    // deno-fmt-ignore
    assert.deepStrictEqual(hashes, [
      0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6, 0x88e3d89b,
      0xa0080b65, 0x9d38d9d6, 0x577999b1, 0xc839caed, 0xe4fa32cf, 0x959246ee,
    ])
  })

  it("is the same of a text and of its bytes, however long", () => {
    for (const key of ["", "a", "user-1", "ä", "日本", "😀", "\ufffd", "x".repeat(1_000), "é".repeat(999)]) {
      assert.strictEqual(hashOfText(key), hashOfBytes(Buffer.from(key)), key)
      assert.isTrue(isKey(Buffer.from(key), key), key)
    }
  })

  it("does not take other bytes for a key, nor bytes that are not UTF-8", () => {
    assert.isFalse(isKey(Buffer.from([0xe9]), "é"))
    assert.isFalse(isKey(Buffer.from([0xff]), "\ufffd"))
    assert.isFalse(isKey(Buffer.from("ab"), "é"))
    assert.isFalse(isKey(Buffer.from("ab"), "ac"))
    assert.isFalse(isKey(Buffer.from("ab"), "abc"))
    assert.isFalse(isKey(Buffer.from("abc"), "ab"))
  })
})

describe("KeyTable", () => {
  it.effect("finds what was added and not deleted, and goes through it in the order it came", () =>
    forSeeds(100, (dice) =>
      Effect.sync(() => {
        const table = new KeyTable<number>()
        const model = new Map<string, Slot<number>>()
        const keys = Array.from({ length: dice.pick([3, 40, 400]) }, (_, i) => `${dice.pick(["k", "ü"])}${i}`)
        for (let i = 0; i < 1_000; i++) {
          const key = dice.pick(keys)
          const found = table.find(Buffer.from(key), hashOfText(key))
          assert.strictEqual(found, model.get(key))
          assert.strictEqual(table.get(key), found)
          if (dice.int(0, 300) === 0) {
            table.clear()
            model.clear()
          } else if (found === undefined) {
            const slot = new Slot<number>(key, i, 0)
            table.add(slot)
            model.set(key, slot)
          } else if (dice.int(0, 2) > 0) {
            table.delete(key)
            model.delete(key)
          }
          assert.strictEqual(table.size, model.size)
        }
        table.delete("none")
        assert.deepStrictEqual([...table], [...model.values()])
      })))
})
