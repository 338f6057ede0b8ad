import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Circuit, type Policy } from "../../src/stages/Circuit.ts"
import { forSeeds } from "../support/Seeds.ts"

const policy = { failures: 3, within: "10 seconds", wait: "5 seconds" } as const

/** A circuit at a time of its own, and one call through it. */
const at = (options: Policy = policy) => {
  const circuit = new Circuit(options, "test")
  const clock = { now: 0 }
  const call = (outcome: "answered" | "failed" | "neither"): boolean => {
    const admission = circuit.admit(clock.now)
    if (admission === undefined) return false
    circuit.settle(admission, outcome === "answered" ? 1 : 0, outcome === "failed" ? 1 : 0, clock.now)
    return true
  }
  return { circuit, clock, call }
}

const repeat = (times: number, f: () => void) => {
  for (let i = 0; i < times; i++) f()
}

describe("Circuit", () => {
  it("opens with so many failures, also with answers between them, and not with fewer", () => {
    const { circuit, call } = at()
    repeat(2, () => call("failed"))
    repeat(100, () => call("answered"))
    assert.strictEqual(circuit.state, "closed")
    call("failed")
    assert.strictEqual(circuit.state, "open")
    assert.isFalse(call("answered"))
  })

  it("forgets failures after the time within which they count", () => {
    const { circuit, clock, call } = at()
    repeat(2, () => call("failed"))
    clock.now = 10_000
    call("failed")
    assert.strictEqual(circuit.state, "closed")
    clock.now = 19_999
    call("failed")
    assert.strictEqual(circuit.state, "closed")
    call("failed")
    assert.strictEqual(circuit.state, "open")
  })

  it("opens only where failures are such a share of all calls", () => {
    const { circuit, call } = at({ ...policy, share: 0.5 })
    repeat(5, () => call("answered"))
    repeat(4, () => call("failed"))
    assert.strictEqual(circuit.state, "closed")
    call("failed")
    assert.strictEqual(circuit.state, "open")
  })

  it("is tried again after its wait, by one call at a time, and closes with an answer", () => {
    const { circuit, clock, call } = at()
    repeat(3, () => call("failed"))
    clock.now = 4_999
    assert.isFalse(call("answered"))
    clock.now = 5_000
    const probe = circuit.admit(clock.now)!
    assert.isTrue(probe.isProbe)
    assert.strictEqual(circuit.state, "half-open")
    assert.isUndefined(circuit.admit(clock.now))
    circuit.settle(probe, 1, 0, 5_100)
    assert.strictEqual(circuit.state, "closed")
    repeat(2, () => call("failed"))
    assert.strictEqual(circuit.state, "closed", "failures from before do not count")
  })

  it("opens for another wait when that call fails, and lets another try where it came to nothing", () => {
    const { circuit, clock, call } = at()
    repeat(3, () => call("failed"))
    clock.now = 6_000
    call("neither")
    assert.strictEqual(circuit.state, "half-open")
    call("failed")
    assert.strictEqual(circuit.state, "open")
    assert.strictEqual(circuit.openUntil, 11_000)
    clock.now = 10_999
    assert.isFalse(call("answered"))
    clock.now = 11_000
    assert.isTrue(call("answered"))
    assert.strictEqual(circuit.state, "closed")
  })

  it("closes once as many calls as it is told to have been answered", () => {
    const { circuit, clock, call } = at({ ...policy, probes: 3 })
    repeat(3, () => call("failed"))
    clock.now = 5_000
    const probes = Array.from({ length: 5 }, () => circuit.admit(clock.now))
    assert.deepStrictEqual(probes.map((probe) => probe?.isProbe), [true, true, true, undefined, undefined])
    for (const probe of probes.slice(0, 2)) circuit.settle(probe!, 1, 0, clock.now)
    assert.strictEqual(circuit.state, "half-open")
    assert.isUndefined(circuit.admit(clock.now))
    circuit.settle(probes[2]!, 1, 0, clock.now)
    assert.strictEqual(circuit.state, "closed")
  })

  it("is not moved by outcomes of calls from before it changed", () => {
    const { circuit, clock, call } = at()
    const early = circuit.admit(0)!
    repeat(3, () => call("failed"))
    clock.now = 5_000
    const probe = circuit.admit(clock.now)!
    circuit.settle(early, 0, 1, clock.now)
    assert.strictEqual(circuit.state, "half-open")
    circuit.settle(early, 1, 0, clock.now)
    assert.strictEqual(circuit.state, "half-open")
    circuit.settle(probe, 1, 0, clock.now)
    assert.strictEqual(circuit.state, "closed")
    circuit.settle(probe, 0, 3, clock.now)
    assert.strictEqual(circuit.state, "closed")
  })

  it("takes many calls at once for as many", () => {
    const { circuit } = at({ ...policy, share: 0.2 })
    circuit.settle(circuit.admit(0)!, 97, 3, 0)
    assert.strictEqual(circuit.state, "closed")
    circuit.settle(circuit.admit(0)!, 0, 30, 0)
    assert.strictEqual(circuit.state, "open")
  })

  it.effect("opens when a count of all calls says so", () =>
    forSeeds(200, (dice) =>
      Effect.sync(() => {
        const failures = dice.int(1, 6)
        const share = dice.pick([0, 0.3, 0.7])
        const circuit = new Circuit({ failures, share, within: 1_000, wait: 1 }, "test")
        const calls: Array<readonly [at: number, failed: boolean]> = []
        let now = dice.int(0, 5_000)
        for (let i = 0; i < 60; i++) {
          now += dice.pick([0, 1, 50, 99, 100, 400, 1_000, 3_000])
          const failed = dice.int(0, 1) === 0
          calls.push([now, failed])
          circuit.settle(circuit.admit(now)!, failed ? 0 : 1, failed ? 1 : 0, now)
          // In slices of a tenth.
          const recent = calls.filter(([at]) => Math.floor(at / 100) > Math.floor(now / 100) - 10)
          const bad = recent.filter(([, failed]) => failed).length
          const opens = failed && bad >= failures && bad >= share * recent.length
          assert.strictEqual(circuit.state, opens ? "open" : "closed")
          if (opens) return
        }
      })))

  it("refuses a policy that makes no sense", () => {
    const made = (change: Partial<Policy>) => () => new Circuit({ ...policy, ...change }, "test")
    assert.throws(made({ failures: 0 }), RangeError, "test: failures")
    assert.throws(made({ probes: 0.5 }), RangeError, "test: probes")
    assert.throws(made({ share: 2 }), RangeError, "test: share")
    assert.throws(made({ within: 0 }), RangeError, "test: within")
    assert.throws(made({ wait: -1 }), RangeError, "test: wait")
  })
})
