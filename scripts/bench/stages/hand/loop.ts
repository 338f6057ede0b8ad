/** Plain loops over batches, for work done by hand: without commits, failures or restarts. */
import type { Buffer } from "node:buffer"
import type { Prepared, Reading } from "../input.ts"

/** Is given one batch after the other, and answers what it makes of each. */
export interface Loop {
  take(batch: Prepared, isRight: boolean): ReadonlyArray<unknown>
  /** What is left when there are no more. */
  end?(): ReadonlyArray<unknown>
}

export type Out = Array<unknown>

export const textOf = (key: Uint8Array | null): string => (key as Buffer).toString("utf8")

/** A loop over the values of a batch. */
export const each = (visit: (value: Reading, out: Out, key: Uint8Array | null, at: number) => unknown): Loop => ({
  take: ({ values, source: { keys, timestamps } }) => {
    const out: Out = []
    for (let i = 0; i < values.length; i++) visit(values[i]!, out, keys[i]!, timestamps[i]!)
    return out
  },
})

/** A loop over what stands in the topic. */
export const eachRaw = (visit: (bytes: Buffer, out: Out) => unknown): Loop => ({
  take: ({ source: { bytes } }) => {
    const out: Out = []
    for (let i = 0; i < bytes.length; i++) visit(bytes[i] as Buffer, out)
    return out
  },
})

export interface Sides {
  left(value: Reading, key: string, at: number, out: Out): void
  right(value: Reading, key: string, at: number, out: Out): void
}

interface Waiting {
  readonly batch: Prepared
  row: number
}

/** Two sides in the order of time; of equal times the side named comes first. */
export const byTime = (first: "left" | "right", sides: Sides): Loop => {
  const lefts: Array<Waiting> = []
  const rights: Array<Waiting> = []
  const step = (waiting: Array<Waiting>, isRight: boolean, out: Out) => {
    const one = waiting[0]!
    const { values, source: { keys, timestamps, length } } = one.batch
    const row = one.row++
    if (isRight) sides.right(values[row]!, textOf(keys[row]!), timestamps[row]!, out)
    else sides.left(values[row]!, textOf(keys[row]!), timestamps[row]!, out)
    if (one.row === length) waiting.shift()
  }
  const timeOf = ({ batch, row }: Waiting) => batch.source.timestamps[row]!
  return {
    take: (batch, isRight) => {
      ;(isRight ? rights : lefts).push({ batch, row: 0 })
      const out: Out = []
      while (lefts.length > 0 && rights.length > 0) {
        const difference = timeOf(rights[0]!) - timeOf(lefts[0]!)
        const isRight = difference < 0 || difference === 0 && first === "right"
        step(isRight ? rights : lefts, isRight, out)
      }
      return out
    },
    end: () => {
      const out: Out = []
      while (lefts.length > 0) step(lefts, false, out)
      while (rights.length > 0) step(rights, true, out)
      return out
    },
  }
}
