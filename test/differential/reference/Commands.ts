/** Commands that are decided one after the other: what happened, what was refused, and what is answered again. */
import { drop, type Reference, refuse, type Sent, type Value } from "./Stream.ts"

export interface Rules {
  readonly initial: number
  aggregate(id: string): string
  /** Events, or undefined for a rejection. */
  decide(balance: number, n: number): ReadonlyArray<number> | undefined
  /** How many results of a key are remembered. */
  readonly atMost: number
  /** How long, in stream time. */
  readonly window: number
}

interface Answer {
  readonly id: string
  readonly at: number
  readonly version: number
  readonly events: ReadonlyArray<number> | undefined
}

const rowText = (id: string, version: number, event: number) => JSON.stringify({ id, n: event, at: version })

/** A value for every command that was accepted; events are sent to `topic`, and stay whatever becomes of the value. */
export const decide = (rules: Rules, topic: string): Reference => (stream) => {
  const known = new Map<string, { balance: number; version: number; answers: ReadonlyArray<Answer> }>()
  const refused: Array<readonly [Value, string]> = []
  const sent: Array<Sent> = []
  const values: Array<Value> = []
  let now = -Infinity
  for (const value of stream.values) {
    const { key, id, n, row } = value
    for (const clock of stream.clock.slice(0, row)) now = Math.max(now, clock)
    now = Math.max(now, value.clock)
    if (key === null || rules.aggregate(id) !== key) {
      refused.push([value, key === null ? "Keyless" : "Undecidable"])
      continue
    }
    const of = known.get(key) ?? { balance: rules.initial, version: 0, answers: [] }
    known.set(key, of)
    of.answers = of.answers.filter(({ at }) => at >= now - rules.window)
    const before = of.answers.find((answer) => answer.id === id)
    const events = before === undefined ? rules.decide(of.balance, n) : before.events
    if (before === undefined) {
      of.answers = [...of.answers, { id, at: now === -Infinity ? value.at : now, version: of.version, events }].slice(
        -rules.atMost,
      )
    }
    if (events === undefined) {
      refused.push([value, "Overdrawn"])
      continue
    }
    const version = before?.version ?? of.version
    if (before === undefined) {
      for (const event of events) {
        of.balance += event
        of.version++
        sent.push({ topic, row, unit: {}, key, value: rowText(id, of.version, event), clock: now })
      }
    }
    const outcome = before === undefined ? "accepted" : "repeated"
    values.push({
      ...value,
      id: `${id} ${outcome} ${events.length === 0 ? "" : version}:${events}`,
      n: events.reduce((a, b) => a + b, 0),
    })
  }
  const kept = refuse(refused)({ ...stream, values })
  return { ...kept, sent: [...kept.sent, ...sent].sort((a, b) => a.row - b.row) }
}

/** The events one by one, behind `decide`. */
export const events: Reference = (stream) => {
  const parts = (value: Value) => {
    const [, outcome, text] = /^.* (\w+) (\d*:.*)$/.exec(value.id)!
    const [version, list] = text!.split(":")
    return { outcome, version: Number(version), list: list === "" ? [] : list!.split(",").map(Number) }
  }
  const is = (value: Value) => parts(value).outcome === "accepted" && parts(value).list.length > 0
  const reason = (value: Value) => parts(value).outcome === "repeated" ? "repeated" : "empty"
  return {
    ...stream,
    values: stream.values.filter(is).flatMap((value) => {
      const { version, list } = parts(value)
      return list.map((n, i) => ({ ...value, id: `${value.key}.${version + 1 + i}`, n }))
    }),
    dropped: [
      ...stream.dropped,
      ...stream.values.filter((value) => !is(value)).flatMap((value) => drop(reason(value), [value])),
    ],
  }
}
