/** The rules of the accounts in DeciderCases, and what is remembered, once more, as one would write them by hand. */
import type { Reading } from "./StageCases.ts"

export interface Decision {
  readonly key: string | null
  readonly id: string
  readonly outcome: string
  /** Of the first time, where it is repeated. */
  readonly events: ReadonlyArray<string>
}

interface Command {
  readonly key: string | null
  readonly value: string | null
}

/** What becomes of the commands of one task, and the sums of accounts to which something has happened. */
export const byHand = (commands: ReadonlyArray<Command>, window: number, atMost: number) => {
  const decisions: Array<Decision> = []
  const sums = new Map<string, number>()
  const versions = new Map<string, number>()
  const remembered: Array<{ readonly key: string; readonly step: number; readonly decision: Decision }> = []
  const step = window / 24
  let now = -Infinity
  for (const { key, value } of commands) {
    const { id, n, at } = JSON.parse(value!) as Reading
    now = Math.max(now, at)
    const say = (outcome: string, events: ReadonlyArray<string> = []) => {
      const decision = { key, id, outcome, events }
      decisions.push(decision)
      return decision
    }
    if (key === null) say("Keyless")
    else if (n === 7 || !id.startsWith(`${key}-`)) say("Undecidable Misaddressed")
    else if (n === 6 && id.endsWith("-6")) say("Undecidable Unidentified")
    else {
      const before = remembered.filter((one) => one.key === key).slice(-atMost)
        .find(({ decision, step: of }) => decision.id === id && of >= Math.floor(now / step) - 24)
      if (before !== undefined) {
        say(before.decision.outcome.replace("accepted", "repeated"), before.decision.events)
        continue
      }
      const sum = sums.get(key) ?? 0
      const left = n < 5 ? sum + n : sum - n + 5
      const names = n < 5 ? [`Added ${n}`] : n === 5 ? [] : [`Drawn ${n - 5}`, ...left === 0 ? ["Emptied"] : []]
      const version = versions.get(key) ?? 0
      const decision = left < 0
        ? say("Overdrawn")
        : say("accepted", names.map((name, i) => `${version + 1 + i} ${name}`))
      remembered.push({ key, step: Math.floor(now / step), decision })
      if (left < 0 || names.length === 0) continue
      sums.set(key, left)
      versions.set(key, version + names.length)
    }
  }
  return { decisions, sums }
}
