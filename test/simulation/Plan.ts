/** How many runs of each kind CI makes, and in how many of them a program dies at least. */
import type { Kind } from "./Tally.ts"

export interface Planned {
  /** Seeds. */
  readonly runs: number
  /** Runs in which a program dies. */
  readonly deaths: number
  /** Faults that are met. */
  readonly kinds?: ReadonlyArray<Kind>
}

/** Whatever happens to programs on Kafka. */
const everything: ReadonlyArray<Kind> = [
  "crash before a call",
  "crash after a call",
  "message delayed",
  "partitions reordered",
  "produce refused, passing",
  "produce refused for good",
  "commit refused, passing",
  "commit refused for good",
  "acknowledgement lost",
  "answer never came",
  "request late",
  "program killed",
  "program stopped",
  "rebalance: a member came",
  "rebalance: a member was lost",
  "rebalance: a member was removed",
  "static member came back",
  "static member's name taken by another",
  "slow member kicked out",
  "producer fenced",
  "zombie woke after its partitions had moved",
  "broker restarted with loss",
  "clock jumped forwards",
  "clock jumped backwards",
]

const inDatabases: ReadonlyArray<Kind> = [
  "database writer frozen",
  "database connection broken",
  "database commit's answer lost",
]

const dying: ReadonlyArray<Kind> = ["crash before a call", "crash after a call"]

/** Where programs only die, and one run in ten has everything. */
const mostlyDying: ReadonlyArray<Kind> = [
  ...dying,
  "program killed",
  "acknowledgement lost",
  "static member came back",
]

/** By name. */
export const plan = {
  "random pipelines of one kind of task": { runs: 4_600, deaths: 4_200, kinds: mostlyDying },
  "random pipelines of two kinds of tasks, by another key in the middle": {
    runs: 4_200,
    deaths: 3_850,
    kinds: mostlyDying,
  },
  "random joins by foreign key, of three kinds of tasks": { runs: 500, deaths: 460, kinds: mostlyDying },
  "clickstream, every step": { runs: 8, deaths: 1_000, kinds: dying },
  "clickstream keyed by visitor, every step": { runs: 2, deaths: 160, kinds: dying },
  "clickstream's tables, every step": { runs: 1, deaths: 270, kinds: dying },
  "clickstream, chaos": { runs: 300, deaths: 120, kinds: [...everything, "transaction timed out"] },
  "clickstream keyed by visitor, chaos": { runs: 60, deaths: 25 },
  "clickstream with tables, chaos": { runs: 100, deaths: 60, kinds: inDatabases },
  "clickstream at least once, chaos": { runs: 150, deaths: 50 },
} satisfies Readonly<Record<string, Planned>>

export type Name = keyof typeof plan
