/** What the partitions of a topic come to, live and shadow, one after the other. */
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import type { Difference, DiffOptions, TopicDiff } from "./Diff.ts"
import { type ByKey, deleted } from "./Gathered.ts"

export interface Bounds {
  /** Whether the live topic may hold records that the shadow cannot have: before its own, and behind them. */
  readonly isHeadFree: boolean
  readonly isTailFree: boolean
  /** Whether retention may have taken the beginning of what is live. */
  readonly isCut: boolean
}

/** A difference that is told, and which of its key's records are meant. */
export interface Told {
  readonly key: string | null
  readonly what: Difference["what"]
  readonly live: number | undefined
  readonly shadow: number | undefined
}

export class Comparison {
  readonly #isTable: boolean
  readonly #show: boolean
  readonly #most: number
  #keys = 0
  #same = 0
  #differing = 0
  #onlyLive = 0
  #onlyShadow = 0
  #live = 0
  #shadow = 0
  readonly #first: Array<Difference> = []
  #told = 0

  constructor(isTable: boolean, { show = false, first = 10 }: DiffOptions = {}) {
    this.#isTable = isTable
    this.#show = show
    this.#most = first
  }

  /** Answers the differences that are to be told. */
  compare(live: ByKey, shadow: ByKey, bounds: Bounds): ReadonlyArray<Told> {
    const told: Array<Told> = []
    const tell = (
      key: string | null,
      what: Difference["what"],
      live: number | undefined,
      shadow: number | undefined,
    ) => {
      if (this.#told >= this.#most) return
      this.#told++
      told.push({ key, what, live, shadow })
    }
    const compare = (key: string | null) => {
      const [ours, theirs] = [this.#counted(live.get(key)), this.#counted(shadow.get(key))]
      if (ours.length === 0 && theirs.length === 0) return
      this.#keys++
      if (theirs.length === 0) {
        this.#onlyLive++
        if (!bounds.isHeadFree && !bounds.isTailFree) tell(key, "only live", 0, undefined)
      } else if (ours.length === 0 && !bounds.isCut) {
        this.#onlyShadow++
        tell(key, "only shadow", undefined, 0)
      } else if (key === null ? sameUnordered(ours, theirs, bounds) : sameSequence(ours, theirs, bounds)) this.#same++
      else {
        this.#differing++
        const at = ours.findIndex((one, i) => one !== theirs[i])
        const i = at < 0 ? ours.length : at
        tell(key, "differs", i < ours.length ? i : undefined, i < theirs.length ? i : undefined)
      }
    }
    for (const key of live.keys()) compare(key)
    for (const key of shadow.keys()) if (!live.has(key)) compare(key)
    return told
  }

  count(live: number, shadow: number): void {
    this.#live += live
    this.#shadow += shadow
  }

  /** Adds a difference, with the values where they are to be shown. */
  tell({ key, what }: Told, live: string | undefined, shadow: string | undefined): void {
    const bytes = key === null ? undefined : Buffer.from(key, "latin1")
    this.#first.push({
      key: bytes === undefined
        ? "(no key)"
        : this.#show
        ? bytes.toString("utf8")
        : `sha256:${createHash("sha256").update(bytes).digest("hex").slice(0, 12)}`,
      what,
      ...this.#show && live !== undefined && { live },
      ...this.#show && shadow !== undefined && { shadow },
    })
  }

  /** What counts of a key's records; in a table one that was deleted is not there. */
  #counted(digests: ReadonlyArray<string> | undefined): ReadonlyArray<string> {
    return digests === undefined || this.#isTable && digests[0] === deleted ? [] : digests
  }

  result(): Omit<TopicDiff, "topic"> {
    return {
      compared: this.#isTable ? "table" : "stream",
      keys: this.#keys,
      same: this.#same,
      differing: this.#differing,
      onlyLive: this.#onlyLive,
      onlyShadow: this.#onlyShadow,
      records: { live: this.#live, shadow: this.#shadow },
      first: this.#first,
    }
  }
}

const sameSequence = (live: ReadonlyArray<string>, shadow: ReadonlyArray<string>, bounds: Bounds): boolean => {
  const matches = (all: ReadonlyArray<string>, part: ReadonlyArray<string>, from: number) =>
    part.every((one, i) => one === all[from + i])
  if (live.length === shadow.length && matches(live, shadow, 0)) return true
  if (bounds.isCut && live.length <= shadow.length && matches(shadow, live, shadow.length - live.length)) return true
  const last = live.length - shadow.length
  for (let from = bounds.isHeadFree ? 0 : Math.min(0, last); from <= last; from++) {
    if (!bounds.isHeadFree && from > 0) return false
    if (!bounds.isTailFree && from !== last) continue
    if (matches(live, shadow, from)) return true
  }
  return false
}

const sameUnordered = (live: ReadonlyArray<string>, shadow: ReadonlyArray<string>, bounds: Bounds): boolean => {
  const left = new Map<string, number>()
  for (const one of live) left.set(one, (left.get(one) ?? 0) + 1)
  for (const one of shadow) {
    const n = left.get(one) ?? 0
    if (n === 0) return bounds.isCut
    left.set(one, n - 1)
  }
  return bounds.isHeadFree || bounds.isTailFree || Array.from(left.values()).every((n) => n === 0)
}
