/** What is said of dead letters, and of what was done with them. */
import type * as Redrive from "../ops/Redrive.ts"
import { columns, moment } from "./columns.ts"

/** The dead letters of a topic; partition and offset are those of the last one of each kind. */
export const listedAs = (topic: string, groups: ReadonlyArray<Redrive.Group>): string => {
  if (groups.length === 0) return `${topic}: no dead letters`
  const head = [
    "letters",
    "redriven",
    "quarantined",
    "reason",
    "stage",
    "from",
    "by",
    "first",
    "last",
    "partition",
    "offset",
  ]
  const rows = groups.map((
    { letters, redriven, quarantined, reason, stage, origin, program, first, last, lastAt },
  ) => [
    letters,
    redriven,
    quarantined,
    reason,
    stage ?? "-",
    origin ?? "-",
    program,
    moment(first),
    moment(last),
    lastAt.partition,
    lastAt.offset,
  ])
  return `${topic}:\n${columns(head, rows)}`
}

/** What a script would want. */
export const plain = ({ sent, refused, ...rest }: Redrive.Report) => {
  const { read, selected, restamped, before, quarantined, quarantinedNow, isCutOff } = rest
  const counts = { read, selected, restamped, before, quarantined, quarantinedNow, isCutOff }
  return { ...counts, sent: Object.fromEntries(sent), refused: Object.fromEntries(refused) }
}

const why: Readonly<Record<Redrive.Refusal, string>> = {
  NoOrigin: "never were records: they are requests or lines of a file",
  Truncated: "were cut, because they were too large",
  Result: "hold results of many records, which no topic leads back to",
  NoTopic: "come from a topic or partition that is no more",
  Compacted: "come from a topic that keeps the last record of a key, which a later one may be",
  Refused: "are refused by the brokers: too large, or of a time that they do not take",
}

/** What people would. */
export const told = (report: Redrive.Report, isDry: boolean): string => {
  const lines = [`${report.selected} dead letters are selected, of ${report.read} looked at`]
  const line = (count: number, words: string) => {
    if (count > 0) lines.push(`${count} ${words}`)
  }
  for (const [topic, count] of report.sent) line(count, `${isDry ? "would be sent" : "sent"} to ${topic}`)
  if (report.sent.size === 0) lines.push(`none ${isDry ? "would be" : "was"} sent`)
  line(
    report.restamped,
    "of these with the time of now: their topic would delete them soon, or not take their own time",
  )
  line(report.before, "were sent before")
  line(report.quarantined, `are quarantined: they came back too often (${report.quarantinedNow} of them now)`)
  for (const [reason, count] of report.refused) line(count, `cannot be sent: they ${why[reason]} (${reason})`)
  if (report.isCutOff) lines.push("more are selected than --max allows")
  return lines.join("\n")
}
