/** Tumbling windows by themselves, over a store: what many of them cost, and what is left of those that hold nothing. */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { Buffer } from "node:buffer"
import { fromSource } from "../../src/Batch.ts"
import { Fold, Window } from "../../src/index.ts"
import { Step } from "../../src/stages/Timed.ts"
import { AlignedWindows } from "../../src/stages/windows/AlignedWindows.ts"
import { emission, keeping } from "../../src/stages/windows/Emission.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { sources } from "../support/FlowRunner.ts"
import { Events } from "../support/Windowing.ts"

const make = (window: Window.Aligned) => {
  const store = new JournaledStore({ name: "w", value: Schema.Int, isParted: true })
  const final = emission("final")
  const windows = new AlignedWindows<unknown, number, number, unknown>(store as JournaledStore<unknown>, {
    name: "w",
    window,
    fold: Fold.count,
    keeping: keeping(Fold.count.state, final),
    emission: final,
  })
  const step = new Step<Window.Windowed<number>, Window.Late | Window.Keyless>()
  const advance = (now: number) => {
    store.streamTime = now
    windows.advance(now, step)
  }
  return { store, windows, step, advance }
}

const one = (key: Buffer | null) => {
  const [source] = sources(Events, [{ key: "k", value: null, timestamp: 0 }], [])
  return fromSource({ ...source!, keys: [key] }, [0])
}

describe("tumbling windows", () => {
  it("close in a time that grows with their number, however many are open", () => {
    const { windows, step, advance } = make(Window.tumbling({ size: 1_000, grace: "2 days" }))
    const batch = one(Buffer.from("k"))
    const many = 100_000
    for (let i = 0; i < many; i++) {
      advance(i * 1_000)
      windows.add(0, i * 1_000, 0, batch, step)
    }
    const from = performance.now()
    advance(many * 1_000 + 2 * 86_400_000)
    assert.isBelow(performance.now() - from, 4_000)
    assert.deepStrictEqual(step.values.map(({ start }) => start), Array.from({ length: many }, (_, i) => i * 1_000))
  })

  it("keep nothing of windows whose records all failed, or were taken back", () => {
    const { store, windows, step, advance } = make(Window.tumbling({ size: 1_000 }))
    for (const [i, key] of [null, Buffer.from([0xff]), Buffer.from("k")].entries()) {
      advance(i * 1_000)
      windows.add(0, i * 1_000, 0, one(key), step)
    }
    assert.strictEqual(step.folded, 1)
    assert.deepStrictEqual([...store.committedParts()], ["2000"])
    store.rewind()
    assert.deepStrictEqual([...store.committedParts()], [])
  })
})
