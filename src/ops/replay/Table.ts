/** Plans and differences as text, for people. */
import type { Diff } from "./Diff.ts"
import type { Plan } from "./Plan.ts"
import type { ReplayRefused } from "./ReplayError.ts"

/** A plan as a table, with what it would write again, and why it is refused where it is. */
export const planned = (plan: Plan, refused: ReadonlyArray<ReplayRefused>): string => {
  const rows = plan.partitions.map((one) => [
    one.topic,
    String(one.partition),
    one.kind === "input" ? "" : one.kind,
    String(one.position ?? "none"),
    String(one.from),
    String(one.to),
    String(one.records),
    String(one.earliest),
    one.missing > 0 ? String(one.missing) : "",
  ])
  const total = plan.partitions.reduce((sum, { records }) => sum + records, 0)
  const head = ["topic", "partition", "", "stands at", "from", "to", "records", "log begins", "taken"]
  return [
    `pipeline ${plan.pipeline}, group ${plan.group}: ${total} records in ${plan.partitions.length} partitions`,
    "",
    ...table([head, ...rows]),
    "",
    ...plan.outputs.map(({ topic, idempotent }) =>
      idempotent
        ? `outputs to topic ${topic} will be written again: its readers see the same last value of every key`
        : `outputs to topic ${topic} will be written again: its readers get them twice`
    ),
    ...plan.sink === undefined ? [] : [
      plan.sink.idempotentBy === undefined
        ? `${plan.sink.name}: nothing is known that would keep rows from being written twice`
        : `${plan.sink.name}: idempotent, ${plan.sink.idempotentBy}`,
    ],
    ...plan.stores.length === 0 ? [] : [
      `state: ${plan.stores.join(", ")}; ` +
      (plan.isWhole
        ? "the logs have kept everything, so that it can be made again from their beginning"
        : "records that it was made of are left out, or gone"),
    ],
    ...plan.effects.map(({ stage, onReplay }) => `effects of stage ${stage}: ${described[onReplay]}`),
    ...refused.map(({ reason, message }) => `refused (${reason}): ${message}`),
  ].join("\n")
}

const described = {
  safe: "run again, declared safe",
  skip: "left out for records that were processed before",
  undeclared: "not declared safe",
}

/** A comparison as a table, with the first differences of each topic. */
export const compared = (diff: Diff): string =>
  [
    ...table([
      ["topic", "compared", "keys", "same", "differ", "only live", "only shadow", "records live", "shadow"],
      ...diff.topics.map((topic) => [
        topic.topic,
        topic.compared,
        String(topic.keys),
        String(topic.same),
        String(topic.differing),
        String(topic.onlyLive),
        String(topic.onlyShadow),
        String(topic.records.live),
        String(topic.records.shadow),
      ]),
    ]),
    "",
    ...diff.topics.flatMap(({ topic, first }) =>
      first.flatMap(({ key, what, live, shadow }) => [
        `${topic} ${key}: ${what}`,
        ...live === undefined ? [] : [`  live   ${live}`],
        ...shadow === undefined ? [] : [`  shadow ${shadow}`],
      ])
    ),
    ...diff.isExact ? [] : [
      "the live group did not stand still when the end of its outputs was taken: records behind the shadow's do not count",
    ],
    ...diff.isWhole ? [] : ["the shadow began later than the live outputs: what only they have does not count"],
    `${diff.differences} ${diff.differences === 1 ? "key differs" : "keys differ"}`,
  ].join("\n")

const table = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  const isNumber = (i: number) => rows.slice(1).every((row) => /^(\d+|none|)$/.test(row[i]!))
  return rows.map((row) =>
    row.map((cell, i) => isNumber(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)).join("  ").trimEnd()
  )
}
