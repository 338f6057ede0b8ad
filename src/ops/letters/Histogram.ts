/** Dead letters counted by why and where they failed. */
import type { Letter } from "./Letter.ts"
import type { Outcome } from "./Outcomes.ts"

export interface Group {
  readonly reason: string
  /** The stage that gave the records up; `null` where it has no name. */
  readonly stage: string | null
  /** The program that wrote the letters, and the topic that the records came from; `null` for what was none. */
  readonly program: string
  readonly origin: string | null
  readonly letters: number
  /** How many of them were sent again, and how many are not to be any more. */
  readonly redriven: number
  readonly quarantined: number
  /** When the first and the last one were written: milliseconds since 1970. */
  readonly first: number
  readonly last: number
  /** Where the last one stands, to be shown. */
  readonly lastAt: { readonly partition: number; readonly offset: number }
}

export class Histogram {
  readonly #groups = new Map<string, { -readonly [K in keyof Group]: Group[K] }>()

  add(
    { reason, stage: named, program, origin, timestamp, partition, offset }: Letter,
    outcome: Outcome | undefined,
  ): void {
    const stage = named ?? null
    const topic = origin?.topic ?? null
    const id = JSON.stringify([reason, stage, program, topic])
    const group = this.#groups.get(id) ??
      {
        reason,
        stage,
        program,
        origin: topic,
        letters: 0,
        redriven: 0,
        quarantined: 0,
        first: timestamp,
        last: timestamp,
        lastAt: { partition, offset },
      }
    group.letters++
    if (outcome === "sent") group.redriven++
    else if (outcome === "quarantined") group.quarantined++
    group.first = Math.min(group.first, timestamp)
    if (timestamp >= group.last) {
      group.last = timestamp
      group.lastAt = { partition, offset }
    }
    this.#groups.set(id, group)
  }

  /** The largest first. */
  get groups(): ReadonlyArray<Group> {
    return [...this.#groups.values()].sort((a, b) => b.letters - a.letters || (a.reason < b.reason ? -1 : 1))
  }
}
