/** What the programs of a run have counted. */
import type { Metric } from "effect"
import * as Counters from "../kafka/Counters.ts"
import { assignedTasks, stoppedTasks } from "../kafka/Runner.ts"

type Tally = Readonly<Record<string, number>>

/** As `/metrics` would tell it: what was committed, by name. */
export interface Counts {
  /** Records, by topic. */
  readonly read: Tally
  readonly written: Tally
  /** Records, by reason. */
  readonly dropped: Tally
  /** Records that were sent to a topic because of a failure, by its tag. */
  readonly failed: Tally
  /** Values folded into state, by stage. */
  readonly folded: Tally
}

type Snapshots = ReadonlyArray<Metric.Metric.Snapshot>

/** The counts of one pipeline, summed over what its programs have measured. */
export const counts = (snapshots: Snapshots): Counts => {
  const tally = ({ id }: { readonly id: string }, label: string): Tally => {
    const sums: Record<string, number> = {}
    for (const { id: of, attributes, ...snapshot } of snapshots) {
      if (of !== id || snapshot.type !== "Counter") continue
      const name = attributes?.[label] ?? ""
      sums[name] = (sums[name] ?? 0) + Number(snapshot.state.count)
    }
    return sums
  }
  return {
    read: tally(Counters.read, "topic"),
    written: tally(Counters.written, "topic"),
    dropped: tally(Counters.dropped, "reason"),
    failed: tally(Counters.failed, "reason"),
    folded: tally(Counters.folded, "stage"),
  }
}

const gauge = ({ id }: { readonly id: string }) => (snapshots: Snapshots): number =>
  snapshots.reduce((sum, of) => of.id === id && of.type === "Gauge" ? sum + Number(of.state.value) : sum, 0)

/** How many tasks a program has. */
export const tasks = gauge(assignedTasks)

/** How many of them have stopped for good. */
export const stopped = gauge(stoppedTasks)
