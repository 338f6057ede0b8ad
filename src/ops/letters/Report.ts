/** What a redrive has done, or would do. */
import type { Refusal } from "./Returning.ts"

export interface Report {
  /**
   * Letters that were looked at, and those of them that the selection means: as many as were sent now and before, quarantined
   * and refused. What `max` leaves out is in neither.
   */
  readonly read: number
  readonly selected: number
  /** Sent now, by topic; with a dry run those that would be. */
  readonly sent: ReadonlyMap<string, number>
  /** Of those sent, how many got the time of now, because their topic would delete them soon or not take their own. */
  readonly restamped: number
  /** Sent by an earlier redrive. */
  readonly before: number
  /** Not sent, because they have come back so often; how many of them were found to be so now. */
  readonly quarantined: number
  readonly quarantinedNow: number
  /** Not sent, because they cannot be, by reason. */
  readonly refused: ReadonlyMap<Refusal, number>
  /** Whether more is selected than `max` allows. */
  readonly isCutOff: boolean
}

export class Tally implements Report {
  read = 0
  selected = 0
  restamped = 0
  before = 0
  quarantined = 0
  quarantinedNow = 0
  isCutOff = false
  readonly sent = new Map<string, number>()
  readonly refused = new Map<Refusal, number>()

  get sentInAll(): number {
    let sum = 0
    for (const count of this.sent.values()) sum += count
    return sum
  }

  addSent(topic: string, isRestamped: boolean): void {
    this.sent.set(topic, (this.sent.get(topic) ?? 0) + 1)
    if (isRestamped) this.restamped++
  }

  addRefused(reason: Refusal): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + 1)
  }
}
