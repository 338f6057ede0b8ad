import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Linked, LruMap } from "../../src/state/LruMap.ts"
import { forSeeds } from "../support/Seeds.ts"

class Entry implements Linked {
  newer: this | undefined = undefined
  older: this | undefined = undefined
  readonly key: string
  constructor(key: string) {
    this.key = key
  }
}

/** The same in the plainest way: an array, the most recently used last. */
class Reference {
  keys: Array<string> = []
  readonly most: number
  constructor(most: number) {
    this.most = most
  }
  get(key: string): boolean {
    if (!this.keys.includes(key)) return false
    this.keys = [...this.keys.filter((other) => other !== key), key]
    return true
  }
  add(key: string): number {
    this.keys.push(key)
    const gone = Math.max(0, this.keys.length - this.most)
    this.keys = this.keys.slice(gone)
    return gone
  }
  delete(key: string): void {
    this.keys = this.keys.filter((other) => other !== key)
  }
}

describe("LruMap", () => {
  it.effect("forgets what an array in the order of use forgets", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const most = dice.int(0, 5)
        const map = new LruMap<Entry>(most)
        const reference = new Reference(most)
        for (let step = 0; step < 100; step++) {
          const key = String(dice.int(0, 8))
          const what = dice.int(0, 9)
          if (what === 0) {
            map.delete(key)
            reference.delete(key)
          } else if (what < 5 || map.peek(key) !== undefined) {
            assert.strictEqual(map.get(key) !== undefined, reference.get(key))
          } else assert.strictEqual(map.add(new Entry(key)), reference.add(key))
          assert.deepStrictEqual(map.keys(), reference.keys)
          assert.strictEqual(map.size, reference.keys.length)
        }
      })))
})
