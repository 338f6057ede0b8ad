/** A part of the values, always the same part. */
import { ask, type Batch, drop, offsetOf, type RecordContext, row, type Source } from "../Batch.ts"
import { each, type Stage } from "../Flow.ts"

export interface Options<in A> {
  /** The share that is kept: 0 for none, 1 for all. */
  readonly rate: number
  /**
   * What is kept or dropped as a whole, such as a user or a trace: all values with the same key share one lot. Without it
   * each record draws its own, and the values made from one record share that.
   */
  key?(value: A, record: RecordContext): string
  /** Samples with different salts are drawn independently of each other; the same with none. */
  readonly salt?: string
}

/**
 * Keeps a share of the values and drops the others, counted as `sampled`.
 *
 * There is no chance in it: the lot is a hash of the key, or of topic, partition and offset, so that a record that is read
 * again, by whatever program, is kept or dropped as before. What a rate keeps, every higher rate keeps too.
 */
export const by = <A>(options: Options<A>): Stage<A, A> => {
  const keeps = sampler(options, "Sample.by")
  return each(<F>(batch: Batch<A, F>): Batch<A, F> => {
    const gone: Array<number> = []
    for (let i = 0; i < batch.values.length; i++) if (!keeps(batch, i)) gone.push(i)
    return drop(batch, gone, "sampled")
  }, { stage: "sample" })
}

/** Whether a value is in the sample. `what` names the stage in the `RangeError` of a rate that makes no sense. */
export const sampler = <A>(
  options: Options<A>,
  what: string,
): (batch: Batch<A, unknown>, i: number) => boolean => {
  const { rate, key, salt = "" } = options
  if (!(rate >= 0 && rate <= 1)) throw new RangeError(`${what}: rate is a share from 0 to 1, not ${rate}`)
  const seed = hashed(salt, 0x811c9dc5)
  const below = rate * 2 ** 32
  if (key !== undefined) {
    return (batch, i) => mixed(hashed(ask((value: A, record) => options.key!(value, record), batch, i), seed)) < below
  }
  let source: Source | undefined
  let origin = 0
  return (batch, i) => {
    if (source !== batch.source) {
      source = batch.source
      origin = mixed(Math.imul(hashed(source.topic.name, seed) ^ source.partition, prime))
    }
    const offset = offsetOf(source, row(batch, i))
    return mixed(Math.imul(origin ^ offset % 2 ** 32, prime) ^ Math.floor(offset / 2 ** 32)) < below
  }
}

const prime = 0x01000193

/** FNV-1a over UTF-16 code units. */
const hashed = (text: string, seed: number): number => {
  let hash = seed
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), prime)
  return hash
}

/** The last step of MurmurHash3: every bit of the result depends on every bit of the hash. At least 0, below 2^32. */
const mixed = (hash: number): number => {
  let h = hash ^ hash >>> 16
  h = Math.imul(h, 0x85ebca6b)
  h ^= h >>> 13
  h = Math.imul(h, 0xc2b2ae35)
  return (h ^ h >>> 16) >>> 0
}
