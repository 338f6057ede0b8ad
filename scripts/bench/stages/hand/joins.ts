/** Joins by hand. */
import type { Reading } from "../input.ts"
import type { Out, Sides } from "./loop.ts"

/** The row of a key as it was at a time, for some time back. */
export const asOf = (history: number): Sides => {
  const versions = new Map<string, Array<{ readonly at: number; readonly row: Reading }>>()
  return {
    left: (value, key, at, out) => {
      const list = versions.get(key)
      let row: Reading | undefined
      if (list !== undefined) {
        for (let i = list.length - 1; i >= 0 && row === undefined; i--) if (list[i]!.at <= at) row = list[i]!.row
      }
      out.push({ ...value, row })
    },
    right: (row, key, at) => {
      let list = versions.get(key)
      if (list === undefined) versions.set(key, list = [])
      list.push({ at, row })
      while (list.length > 1 && list[1]!.at < at - history) list.shift()
    },
  }
}

interface Waiting {
  readonly key: string
  readonly at: number
  readonly value: Reading
}

/** Records of one side that wait for partners. */
class Side {
  readonly #byKey = new Map<string, Array<Waiting>>()
  #inOrder: Array<Waiting> = []
  #first = 0

  of(key: string): ReadonlyArray<Waiting> {
    return this.#byKey.get(key) ?? none
  }

  add(waiting: Waiting): void {
    this.#inOrder.push(waiting)
    const list = this.#byKey.get(waiting.key)
    if (list === undefined) this.#byKey.set(waiting.key, [waiting])
    else list.push(waiting)
  }

  forget(before: number): void {
    while (this.#first < this.#inOrder.length && this.#inOrder[this.#first]!.at < before) {
      const { key } = this.#inOrder[this.#first++]!
      const list = this.#byKey.get(key)!
      if (list.length === 1) this.#byKey.delete(key)
      else list.shift()
    }
    if (this.#first < 1_000 || this.#first * 2 < this.#inOrder.length) return
    this.#inOrder = this.#inOrder.slice(this.#first)
    this.#first = 0
  }
}

const none: ReadonlyArray<never> = []

/** Pairs of two sides that are so close in time. */
export const within = (bound: number, pair: (left: Reading, right: Reading) => unknown): Sides => {
  const [lefts, rights] = [new Side(), new Side()]
  const come = (own: Side, key: string, at: number, value: Reading) => {
    lefts.forget(at - bound)
    rights.forget(at - bound)
    own.add({ key, at, value })
  }
  return {
    left: (value, key, at, out: Out) => {
      come(lefts, key, at, value)
      for (const partner of rights.of(key)) out.push(pair(value, partner.value))
    },
    right: (value, key, at, out: Out) => {
      come(rights, key, at, value)
      for (const partner of lefts.of(key)) out.push(pair(partner.value, value))
    },
  }
}
