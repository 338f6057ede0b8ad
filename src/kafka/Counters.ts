/**
 * What was committed and produced, as metrics. Labels are names that pipelines and topics have in the source: nothing of
 * a record gets into them.
 */
import { Effect, Metric } from "effect"
import type { Work } from "../Pipeline.ts"

const counter = (name: string, description: string) =>
  Metric.counter(`millrace_records_${name}_total`, { description, incremental: true })

export const read = counter("read", "Records whose positions were committed, by pipeline and topic")

export const written = counter("written", "Records that a commit wrote, by pipeline and topic")

export const dropped = counter("dropped", "Records that were dropped on purpose, by pipeline and reason")

export const failed = counter("failed", "Records that failed and were sent to a topic, by pipeline, reason and topic")

export const folded = counter("folded", "Values that were folded into state, by pipeline and stage")

export const produced = counter("produced", "Records that the brokers acknowledged to a producer, by topic")

export const lost = counter("lost", "Records that were deleted before they were read, by topic: at most so many")

/** Counts what a commit contained, in one update per name: what is not committed is not counted. */
export const committed = (pipeline: string, work: ReadonlyArray<Work>): Effect.Effect<void> => {
  const [reads, writes, drops, folds] = [new Tally(), new Tally(), new Tally(), new Tally()] as const
  const failures = new Map<string, Tally>()
  for (const { source, dropped, folded, outgoing } of work.flatMap(({ batches }) => batches)) {
    if (source.length > 0) reads.add(source.topic.name, source.length)
    for (const { reason } of dropped) drops.add(reason, 1)
    for (const { stage, count } of folded) folds.add(stage, count)
    for (const { topic, failure } of outgoing) {
      writes.add(topic, 1)
      if (failure === undefined) continue
      let reasons = failures.get(topic)
      if (reasons === undefined) failures.set(topic, reasons = new Tally())
      reasons.add(failure, 1)
    }
  }
  return Effect.all([
    reads.update(read, (topic) => ({ pipeline, topic })),
    writes.update(written, (topic) => ({ pipeline, topic })),
    drops.update(dropped, (reason) => ({ pipeline, reason })),
    folds.update(folded, (stage) => ({ pipeline, stage })),
    ...Array.from(failures, ([topic, reasons]) => reasons.update(failed, (reason) => ({ pipeline, topic, reason }))),
  ], { discard: true })
}

/** Counts records that the brokers have acknowledged. */
export const acknowledged = (records: ReadonlyArray<{ readonly topic: string }>): Effect.Effect<void> => {
  const topics = new Tally()
  for (const { topic } of records) topics.add(topic, 1)
  return topics.update(produced, (topic) => ({ topic }))
}

class Tally {
  readonly #counts = new Map<string, number>()

  add(name: string, count: number): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + count)
  }

  update(metric: typeof read, labels: (name: string) => Readonly<Record<string, string>>): Effect.Effect<void> {
    return Effect.forEach(
      this.#counts,
      ([name, count]) => Metric.update(Metric.withAttributes(metric, labels(name)), count),
      { discard: true },
    )
  }
}
