/** How often each kind of fault was really met: one that is planned at a call that is never made is none. */

export const kinds = [
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
  "transaction timed out",
  "broker restarted with loss",
  "clock jumped forwards",
  "clock jumped backwards",
  "database writer frozen",
  "database connection broken",
  "database commit's answer lost",
] as const

export type Kind = typeof kinds[number]

export class Tally {
  readonly #counts = new Map<Kind, number>()

  add(kind: Kind, n = 1): void {
    this.#counts.set(kind, this.of(kind) + n)
  }

  of(kind: Kind): number {
    return this.#counts.get(kind) ?? 0
  }

  addAll(other: Tally): void {
    for (const [kind, n] of other.#counts) this.add(kind, n)
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, n) => sum + n, 0)
  }

  /** One line each, the rarest first. */
  get table(): string {
    const counted = [...this.#counts].sort(([, a], [, b]) => a - b)
    return counted.map(([kind, n]) => `${String(n).padStart(8)} ${kind}`).join("\n")
  }
}
