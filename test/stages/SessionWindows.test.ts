/** Session windows by themselves, over a store: what many sessions of one key cost. */
import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import { fromSource } from "../../src/Batch.ts"
import { Fold, Window } from "../../src/index.ts"
import { Step } from "../../src/stages/Timed.ts"
import { emission } from "../../src/stages/windows/Emission.ts"
import { codec, SessionWindows } from "../../src/stages/windows/SessionWindows.ts"
import { JournaledStore } from "../../src/state/Store.ts"
import { sources } from "../support/FlowRunner.ts"
import { Events } from "../support/Windowing.ts"

describe("session windows", () => {
  it("take a record as quickly where a key has thousands of sessions, and close them as quickly", () => {
    const final = emission("final")
    const store = new JournaledStore({ name: "w", value: codec(Fold.count.state, final) })
    const window = Window.session({ gap: 1_000, grace: "2 days" })
    const windows = new SessionWindows<unknown, number, number>(store, {
      name: "w",
      window,
      fold: Fold.count,
      emission: final,
    })
    const step = new Step<Window.SessionResult<number>, Window.Late | Window.Keyless>()
    const [source] = sources(Events, [{ key: "k", value: null, timestamp: 0 }], [])
    const batch = fromSource({ ...source!, keys: [Buffer.from("k")] }, [0])
    const many = 20_000
    const from = performance.now()
    for (let i = 0; i < many; i++) {
      store.streamTime = i * 2_000
      windows.advance(store.streamTime, step)
      windows.add(0, store.streamTime, 0, batch, step)
      windows.add(0, store.streamTime + 500, 0, batch, step)
    }
    store.streamTime += 3 * 86_400_000
    windows.advance(store.streamTime, step)
    assert.isBelow(performance.now() - from, 12_000)
    assert.deepStrictEqual(
      step.values.map(({ start, end, value }) => [start, end, value]),
      Array.from({ length: many }, (_, i) => [i * 2_000, i * 2_000 + 500, 2]),
    )
  }, 30_000)
})
