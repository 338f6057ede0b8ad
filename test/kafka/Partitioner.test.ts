import { assert, describe, it } from "@effect/vitest"
import { forKey, murmur2 } from "../../src/kafka/Partitioner.ts"

const bytes = (text: string) => new TextEncoder().encode(text)

describe("Partitioner", () => {
  // The vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
  it.each([
    ["21", -973932308],
    ["foobar", -790332482],
    ["a-little-bit-long-string", -985981536],
    ["a-little-bit-longer-string", -1486304829],
    ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
    ["abc", 479470107],
  ])("hashes %s as Java's client does", (key, hash) => {
    assert.strictEqual(murmur2(bytes(key)), hash)
  })

  it("answers a partition in range for keys whose hash is negative", () => {
    assert.strictEqual(forKey(bytes("21"), 12), (-973932308 & 0x7fffffff) % 12)
  })
})
