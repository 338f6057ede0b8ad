/** What random cases really hold: a test that never sees a late record says nothing about late records. */
import type { Outcome } from "./Case.ts"
import { Dlt, Kept } from "./draw/Steps.ts"
import { Latest } from "./draw/Tables.ts"
import type { Ran } from "./Running.ts"

/** In how many cases something occurs. */
export class Coverage {
  readonly operators = new Map<string, number>()
  readonly events = new Map<string, number>()

  add({ topology, ran }: Outcome): void {
    for (const operator of topology.uses) count(this.operators, operator)
    for (const event of new Set(ran.flatMap(eventsOf))) count(this.events, event)
  }

  /** As lines of a table, the rarest first. */
  get table(): string {
    return [this.operators, this.events].map((counts) =>
      [...counts].sort(([, a], [, b]) => a - b).map(([name, n]) => `${String(n).padStart(6)} ${name}`).join("\n")
    ).join("\n\n")
  }
}

const count = (counts: Map<string, number>, name: string) => void counts.set(name, (counts.get(name) ?? 0) + 1)

const eventsOf = ({ batches, restarts, restartsWithState }: Ran): ReadonlyArray<string> => [
  ...restarts > 0 ? ["restart"] : [],
  ...restartsWithState > 0 ? ["restart with state"] : [],
  ...batches.length > 1 ? ["several batches"] : [],
  ...batches.flatMap(({ source, values, failed, dropped, outgoing, folded }) => [
    ...failed.map(({ reason }) =>
      reason._tag === "Late" && reason.partly ? "failed: Late, partly" : `failed: ${reason._tag}`
    ),
    ...dropped.map(({ reason }) => `dropped: ${reason}`),
    ...folded.length > 0 ? ["folded"] : [],
    ...source.silence !== undefined && values.length > 0 ? ["result of a tick"] : [],
    ...values.flatMap(({ id }) =>
      /@.* gone$/.test(id)
        ? ["retraction"]
        : / gone$/.test(id)
        ? ["row deleted"]
        : / none( |$)/.test(id)
        ? ["without a partner"]
        : []
    ),
    ...outgoing.flatMap(({ topic, value, failure }) => [
      ...topic === Dlt.name ? ["dead letter", `dead letter: ${failure}`] : [],
      ...(topic === Latest.name || topic === Kept.name) && value === null ? ["tombstone written"] : [],
    ]),
  ]),
]

const windowKinds = ["tumbling", "hopping", "sliding", "session", "count windows"]

/** What a release would miss if it were not there: each in 200 of 10,000 cases or more. */
export const expectedOperators: ReadonlyArray<string> = [
  ...["Decode schema", "Decode within", "Decode kafka", "wall-clock ticks"],
  ...["map", "filter", "flatMap", "check", "Flow.effect", "sample", "deduplicate", "deduplicate, bounded", "deliver"],
  ...["Branch.when", "Branch.match", "merge of branches", "merge of topics", "merge of three topics", "repartition"],
  ...windowKinds.flatMap((kind) => ["final", "updates", "every"].map((emit) => `${kind}, ${emit}`)),
  ...["count", "sum", "average", "min", "max", "first", "last", "distinct", "top", "collect"],
  ...["custom fold", "several folds", "running aggregate"],
  ...["Join.stream inner", "Join.stream left", "Join.stream outer", "self-join"],
  ...["Join.table", "Join.asOf", "Join.asOf with grace"],
  ...["Join.tables inner", "Join.tables left", "Join.tables outer", "Join.foreignKey inner", "Join.foreignKey left"],
  ...["Table.topic", "Table.of", "Table.map", "Table.filter", "Deliver.table", "Deliver.latest"],
  ...["decider", "Decider.events", "Failures.handle", "retry in place", "hold", "Failures.route"],
]

/** What must really happen: each in 100 of 10,000 cases or more. */
export const expectedEvents: ReadonlyArray<string> = [
  ...["restart", "restart with state", "several batches", "folded", "result of a tick"],
  ...["retraction", "row deleted", "tombstone written", "without a partner"],
  ...[
    "DecodeError",
    "FromTheFuture",
    "Keyless",
    "Late",
    "Late, partly",
    "Refused",
    "Busy",
    "Wrong",
    "Overdrawn",
    "Undecidable",
  ]
    .map((tag) => `failed: ${tag}`),
  ...["filtered", "empty", "sampled", "repeat", "repeated", "unmatched", "superseded"].map((reason) =>
    `dropped: ${reason}`
  ),
  ...["DecodeError", "Late", "Keyless", "Refused", "Busy", "Wrong"].map((tag) => `dead letter: ${tag}`),
]
