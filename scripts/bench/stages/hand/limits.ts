/** Limits by hand. */

/** FNV-1a over UTF-16 code units, mixed as MurmurHash3 does it: of a share of all texts it is below that share of 2^32. */
export const lot = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b)
  hash = Math.imul(hash ^ hash >>> 13, 0xc2b2ae35)
  return (hash ^ hash >>> 16) >>> 0
}

/** Token buckets. */
export const tokens = (perSecond: number) => {
  const buckets = new Map<string, { left: number; at: number }>()
  return (key: string, now: number): boolean => {
    let bucket = buckets.get(key)
    if (bucket === undefined) buckets.set(key, bucket = { left: perSecond, at: now })
    bucket.left = Math.min(perSecond, bucket.left + (now - bucket.at) / 1_000 * perSecond)
    bucket.at = now
    if (bucket.left < 1) return false
    bucket.left--
    return true
  }
}

/** Ids that came lately, at most so many: a set, and a ring that says which is the oldest. */
export const recent = (atMost: number) => {
  const seen = new Set<string>()
  const ring = new Array<string>(atMost)
  let added = 0
  return (id: string): boolean => {
    if (seen.has(id)) return false
    if (added >= atMost) seen.delete(ring[added % atMost]!)
    seen.add(id)
    ring[added++ % atMost] = id
    return true
  }
}

/** A circuit that opens with so many failures within ten seconds. */
export class Circuit {
  #failures = 0
  #since = 0
  #openUntil = 0

  isClosed(now: number): boolean {
    return now >= this.#openUntil
  }

  failed(now: number): void {
    if (now - this.#since > 10_000) {
      this.#since = now
      this.#failures = 0
    }
    if (++this.#failures >= 5) this.#openUntil = now + 1_000
  }
}
