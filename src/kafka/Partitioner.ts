/** Which partition a record goes to: for a key, the one that Java's producer chooses. */

/** The 32-bit MurmurHash2 with the seed that Kafka's Java client uses (`org.apache.kafka.common.utils.Utils.murmur2`). */
export const murmur2 = (data: Uint8Array): number => {
  const length = data.length
  const m = 0x5bd1e995
  let h = 0x9747b28c ^ length
  let i = 0
  for (; i + 4 <= length; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const rest = length - i
  if (rest === 3) h ^= data[i + 2]! << 16
  if (rest >= 2) h ^= data[i + 1]! << 8
  if (rest >= 1) {
    h ^= data[i]!
    h = Math.imul(h, m)
  }
  h ^= h >>> 13
  h = Math.imul(h, m)
  return h ^ (h >>> 15)
}

/** The partition of a key among `partitions`. */
export const forKey = (key: Uint8Array, partitions: number): number => (murmur2(key) & 0x7fffffff) % partitions
