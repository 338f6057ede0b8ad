/** What the commits of a pipeline have contained, read from its metrics. */
import { Effect, Metric } from "effect"

export interface Counts {
  /** Records whose positions were committed, by topic. */
  readonly read: Readonly<Record<string, number>>
  /** Records that were written, by topic. */
  readonly written: Readonly<Record<string, number>>
  /** Records that were dropped on purpose, by reason. */
  readonly dropped: Readonly<Record<string, number>>
  /** Records that failed and were sent to a topic, by reason. */
  readonly failed: Readonly<Record<string, number>>
  /** Values that went into state, by stage. */
  readonly folded: Readonly<Record<string, number>>
}

export const counts = (pipeline: string): Effect.Effect<Counts> =>
  Effect.map(Metric.snapshot, (snapshot) => {
    const by = (what: string, label: string) => {
      const sums: Record<string, number> = {}
      for (const metric of snapshot) {
        if (metric.id !== `millrace_records_${what}_total` || metric.type !== "Counter") continue
        const { [label]: name, pipeline: of } = metric.attributes ?? {}
        if (of === pipeline && name !== undefined) sums[name] = (sums[name] ?? 0) + Number(metric.state.count)
      }
      return sums
    }
    return {
      read: by("read", "topic"),
      written: by("written", "topic"),
      dropped: by("dropped", "reason"),
      failed: by("failed", "reason"),
      folded: by("folded", "stage"),
    }
  })
