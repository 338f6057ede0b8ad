/** The time between commits, by partition, and the longest of each around a rebalance. */
export class Gaps {
  readonly #offsets: Array<number>
  readonly #moved: Array<number>
  /** Gaps that are over, in the order in which they ended. */
  #over: Array<{ readonly partition: number; readonly from: number; readonly to: number }> = []
  readonly kinds = new Map<string, Array<number>>()

  constructor(partitions: number) {
    this.#offsets = new Array<number>(partitions).fill(-1)
    this.#moved = new Array<number>(partitions).fill(-Infinity)
  }

  /** Committed positions, as they are now. */
  saw(offsets: ReadonlyArray<number>, now: number): void {
    offsets.forEach((offset, partition) => {
      if (offset === this.#offsets[partition]) return
      const from = this.#moved[partition]!
      if (from > 0) this.#over.push({ partition, from, to: now })
      this.#offsets[partition] = offset
      this.#moved[partition] = now
    })
  }

  allMovedSince(time: number): boolean {
    return this.#moved.every((moved) => moved > time)
  }

  /** Counts the longest gap of each partition that ended after `from`, in milliseconds. */
  around(kind: string, from: number): ReadonlyArray<number> {
    const longest = this.#moved.map(() => 0)
    for (const { partition, from: began, to } of this.#over) {
      if (to >= from) longest[partition] = Math.max(longest[partition]!, to - began)
    }
    this.#over = []
    this.kinds.set(kind, [...this.kinds.get(kind) ?? [], ...longest])
    return longest
  }

  percentile(kinds: ReadonlyArray<string>, share: number): number {
    const all = kinds.flatMap((kind) => this.kinds.get(kind) ?? []).sort((a, b) => a - b)
    return all[Math.min(all.length - 1, Math.floor(all.length * share))] ?? NaN
  }
}

/** The gaps by what happened, in milliseconds. */
export const table = (gaps: Gaps): string => {
  const row = (kind: string) => {
    const figures = [0.5, 0.99, 1].map((share) => Math.round(gaps.percentile([kind], share)).toLocaleString("en"))
    return `| ${kind} | ${gaps.kinds.get(kind)!.length} | ${figures.join(" | ")} |`
  }
  const head = "| what | partitions looked at | p50, ms | p99, ms | longest, ms |\n| --- | ---: | ---: | ---: | ---: |"
  return [head, ...Array.from(gaps.kinds.keys(), row)].join("\n")
}
