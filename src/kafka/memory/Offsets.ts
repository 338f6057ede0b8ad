/** The committed positions of groups, and those that open transactions have pending. */
import type { CommittedOffset, OffsetToCommit, TopicPartition } from "../Cluster.ts"
import { Refusal } from "./Refusal.ts"

interface Position extends OffsetToCommit {
  /** Counts commits: of a pending and a plain one, the later holds. */
  readonly order: number
}

type Positions = Map<string, Position>

interface Group {
  readonly committed: Positions
  readonly pending: Map<number, { readonly epoch: number; readonly positions: Positions }>
}

export class Offsets {
  readonly #groups = new Map<string, Group>()
  #commits = 0

  /** Groups that have or had positions. */
  get groups(): ReadonlyArray<string> {
    return [...this.#groups.keys()]
  }

  commit(group: string, offsets: ReadonlyArray<OffsetToCommit>): void {
    checkMetadata(offsets)
    const { committed } = this.#at(group)
    for (const one of offsets) committed.set(keyOf(one), { ...one, order: this.#commits++ })
  }

  /** Whether this producer's transaction has positions of the group pending already. */
  hasPending(group: string, producerId: number): boolean {
    return this.#groups.get(group)?.pending.has(producerId) ?? false
  }

  /** Positions that hold once the producer's transaction commits. */
  prepare(group: string, producerId: number, epoch: number, offsets: ReadonlyArray<OffsetToCommit>): void {
    checkMetadata(offsets)
    const { pending } = this.#at(group)
    const before = pending.get(producerId)
    if (before !== undefined && epoch < before.epoch) {
      throw new Refusal(
        "INVALID_PRODUCER_EPOCH",
        `producer ${producerId} commits positions of group ${group} with epoch ${epoch}, but epoch ${before.epoch} did already`,
      )
    }
    const positions = before?.positions ?? new Map<string, Position>()
    for (const one of offsets) positions.set(keyOf(one), { ...one, order: this.#commits++ })
    pending.set(producerId, { epoch, positions })
  }

  /** The producer's transaction has ended. */
  complete(group: string, producerId: number, decision: "commit" | "abort"): void {
    const { committed, pending } = this.#at(group)
    const ended = pending.get(producerId)
    pending.delete(producerId)
    if (decision === "abort" || ended === undefined) return
    for (const [key, position] of ended.positions) {
      const before = committed.get(key)
      if (before === undefined || before.order < position.order) committed.set(key, position)
    }
  }

  fetch(
    group: string,
    wanted: ReadonlyArray<TopicPartition> | undefined,
    requireStable: boolean,
  ): Array<CommittedOffset> {
    const known = this.#groups.get(group)
    const partitions = wanted ?? [...known?.committed.values() ?? []]
    const unstable = new Set(
      requireStable ? [...known?.pending.values() ?? []].flatMap((one) => [...one.positions.keys()]) : [],
    )
    return partitions.map(({ topic, partition }) => {
      const key = keyOf({ topic, partition })
      if (unstable.has(key)) return { topic, partition, error: "UNSTABLE_OFFSET_COMMIT", offset: -1, metadata: "" }
      const { offset, metadata } = known?.committed.get(key) ?? { offset: -1, metadata: "" }
      return { topic, partition, error: null, offset, metadata }
    })
  }

  /** A topic that is deleted takes its positions along. */
  forget(topic: string): void {
    for (const { committed, pending } of this.#groups.values()) {
      for (const positions of [committed, ...Array.from(pending.values(), (one) => one.positions)]) {
        for (const [key, position] of positions) if (position.topic === topic) positions.delete(key)
      }
    }
  }

  #at(name: string): Group {
    let group = this.#groups.get(name)
    if (group === undefined) {
      group = { committed: new Map(), pending: new Map() }
      this.#groups.set(name, group)
    }
    return group
  }
}

const keyOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`

/** `offset.metadata.max.bytes` */
const maxMetadata = 4_096

const checkMetadata = (offsets: ReadonlyArray<OffsetToCommit>): void => {
  for (const { topic, partition, metadata } of offsets) {
    if (metadata.length <= maxMetadata) continue
    throw new Refusal(
      "OFFSET_METADATA_TOO_LARGE",
      `topic ${topic} partition ${partition}: the position's metadata has ${metadata.length} characters, ${maxMetadata} are allowed`,
    )
  }
}
