/** What lookups do, as metrics by `lookup`. */
import { type Context, Metric } from "effect"

const counter = (name: string, description: string) =>
  Metric.counter(`millrace_lookup_${name}_total`, { description, incremental: true })

export const hits = counter("hits", "Keys answered from the cache, by lookup")

export const negativeHits = counter("negative_hits", "Keys answered from the cache as missing or as unavailable")

export const misses = counter("misses", "Keys that were not in the cache, by lookup")

export const loads = counter("loads", "Requests to the source, refreshes among them, by lookup")

export const failures = counter("failures", "Requests to the source that failed or took too long, by lookup and reason")

export const evictions = counter("evictions", "Keys that the cache forgot to make room, by lookup")

export const inFlight = Metric.gauge("millrace_lookup_in_flight", { description: "Requests to the source at work" })

export const age = Metric.gauge("millrace_lookup_age_seconds", {
  description: "How long ago a reference set was loaded, by lookup",
})

/** The figures of one lookup; they add up over lookups of one name. */
export class Figures {
  readonly #context: Context.Context<never>
  readonly #hits
  readonly #negativeHits
  readonly #misses
  readonly #loads
  readonly #failed
  readonly #evictions
  readonly #inFlight

  constructor(lookup: string, context: Context.Context<never>) {
    const labels = { lookup }
    this.#context = context
    this.#hits = Metric.withAttributes(hits, labels)
    this.#negativeHits = Metric.withAttributes(negativeHits, labels)
    this.#misses = Metric.withAttributes(misses, labels)
    this.#loads = Metric.withAttributes(loads, labels)
    this.#evictions = Metric.withAttributes(evictions, labels)
    this.#inFlight = Metric.withAttributes(inFlight, labels)
    this.#failed = (reason: string) => Metric.withAttributes(failures, { ...labels, reason })
  }

  asked(hits: number, negativeHits: number, misses: number): void {
    if (hits > 0) this.#hits.updateUnsafe(hits, this.#context)
    if (negativeHits > 0) this.#negativeHits.updateUnsafe(negativeHits, this.#context)
    if (misses > 0) this.#misses.updateUnsafe(misses, this.#context)
  }

  started(): void {
    this.#loads.updateUnsafe(1, this.#context)
    this.#inFlight.modifyUnsafe(1, this.#context)
  }

  ended(): void {
    this.#inFlight.modifyUnsafe(-1, this.#context)
  }

  failed(reason: string): void {
    this.#failed(reason).updateUnsafe(1, this.#context)
  }

  evicted(keys: number): void {
    if (keys > 0) this.#evictions.updateUnsafe(keys, this.#context)
  }
}
