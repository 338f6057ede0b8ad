/** What batches have changed in a store, and several of these in one. */
import type { Entries } from "../Batch.ts"
import type { Journal } from "./Part.ts"

/** What one batch has changed, as it stood after that batch. */
export class Changed<V> implements Entries {
  readonly journals: ReadonlyArray<Journal<V>>
  readonly values: ReadonlyArray<ReadonlyArray<V | undefined>>
  readonly relogs: ReadonlyArray<readonly [key: string, value: V | undefined]>
  readonly size: number

  constructor(journals: ReadonlyArray<Journal<V>>, relogs: ReadonlyArray<readonly [string, V | undefined]>) {
    this.journals = journals
    this.values = journals.map(({ slots }) => slots.map((slot) => slot.value))
    this.relogs = relogs
    this.size = journals.reduce((sum, { slots }) => sum + slots.length, relogs.length)
  }

  *[Symbol.iterator](): IterableIterator<readonly [key: string, value: V | undefined]> {
    yield* this.relogs
    for (let n = 0; n < this.journals.length; n++) {
      const { part: { prefix }, slots } = this.journals[n]!
      const values = this.values[n]!
      for (let i = 0; i < slots.length; i++) yield [prefix + slots[i]!.key, values[i]]
    }
  }
}

/** The changes of several batches in one: of each key the last. */
export const merge = (list: ReadonlyArray<Entries>): Entries => {
  if (list.length === 1) return list[0]!
  return list.every((one) => one instanceof Changed) ? lastOfSlots(list) : new Map(list.flatMap((one) => [...one]))
}

let merges = 0

/**
 * By slot, which says whether it was met: a look-up by key, or in a set, costs more than all else. A key that was removed
 * and came again has two.
 */
const lastOfSlots = (list: ReadonlyArray<Changed<unknown>>): Entries => {
  const merge = ++merges
  const entries: Array<readonly [string, unknown]> = []
  for (let n = list.length - 1; n >= 0; n--) {
    const { journals, values } = list[n]!
    for (let j = journals.length - 1; j >= 0; j--) {
      const { part: { prefix }, slots } = journals[j]!
      for (let i = slots.length - 1; i >= 0; i--) {
        const slot = slots[i]!
        if (slot.merge === merge) continue
        slot.merge = merge
        entries.push([prefix + slot.key, values[j]![i]])
      }
    }
  }
  for (const { relogs } of list) for (const entry of relogs) entries.push(entry)
  entries.reverse()
  return { size: entries.length, [Symbol.iterator]: () => entries[Symbol.iterator]() }
}
