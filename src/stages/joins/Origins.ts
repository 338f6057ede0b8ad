/** Where values come from: what is kept of one is named so, and is not kept twice when it is read again. */
import { type Batch, type Placed, placeOf } from "../../Batch.ts"

export interface Origin {
  readonly topic: string
  readonly partition: number
  /** Of its record; of what a tick has caused half before the one that the next record will have. */
  readonly offset: number
  /** Which of the values of its record, or of the ticks before the next one. */
  readonly nth: number
}

export const idOf = ({ topic, partition, offset, nth }: Origin): string => `${topic}:${partition}:${offset}:${nth}`

export const parseId = (id: string): Origin => {
  const [topic, partition, offset, nth] = id.split(":") as [string, string, string, string]
  return { topic, partition: Number(partition), offset: Number(offset), nth: Number(nth) }
}

/** The place of its record, for what is wrong with it. */
export const sourceOf = ({ topic, partition, offset }: Origin): Placed["source"] => {
  const next = Math.ceil(offset)
  return { topic: { name: topic }, partition, offsets: [next], next }
}

/** By topic, then by offset, then by number. */
export const comesFirst = (a: Origin, b: Origin): boolean => {
  if (a.topic !== b.topic) return a.topic < b.topic
  return a.offset < b.offset || a.offset === b.offset && a.nth < b.nth
}

/** Tells the origins of values, which are asked for one after the other. */
export class Origins {
  #last: Origin = { topic: "", partition: 0, offset: -1, nth: 0 }

  /** Of something that is kept already: a tick never comes again, so the next one at its place is another. */
  known(origin: Origin): void {
    if (!Number.isInteger(origin.offset) && comesFirst(this.#last, origin)) this.#last = origin
  }

  of({ source }: Batch<unknown, unknown>, row: number): Origin {
    const { topic: { name: topic }, partition } = source
    const offset = placeOf(source, row)
    const last = this.#last
    const nth = last.offset === offset && last.topic === topic ? last.nth + 1 : 0
    return this.#last = { topic, partition, offset, nth }
  }
}
