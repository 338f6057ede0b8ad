/** What was done with the records of a topic: two bits for each, in pieces of a thousand offsets that lie together. */

export type Outcome = "sent" | "quarantined"

export interface Where {
  readonly topicId: string
  readonly partition: number
  readonly offset: number
}

const names: ReadonlyArray<Outcome | undefined> = [undefined, "sent", "quarantined"]

/** Offsets of a piece: a multiple of four. */
const length = 1_024

interface Partition {
  readonly topicId: string
  readonly partition: number
  /** By number: four offsets to a byte. */
  readonly pieces: Map<number, Uint8Array>
}

/** At most some 400 bytes for each outcome, and a third of a byte where they are of offsets that follow each other. */
export class Outcomes {
  readonly #partitions = new Map<string, Partition>()

  get({ topicId, partition, offset }: Where): Outcome | undefined {
    const piece = this.#partitions.get(`${topicId}/${partition}`)?.pieces.get(Math.floor(offset / length))
    return piece && names[at(piece, offset % length)]
  }

  set({ topicId, partition, offset }: Where, outcome: Outcome | undefined): void {
    const name = `${topicId}/${partition}`
    let pieces = this.#partitions.get(name)?.pieces
    if (pieces === undefined) {
      if (outcome === undefined) return
      this.#partitions.set(name, { topicId, partition, pieces: pieces = new Map() })
    }
    const number = Math.floor(offset / length)
    let piece = pieces.get(number)
    if (piece === undefined) {
      if (outcome === undefined) return
      pieces.set(number, piece = new Uint8Array(length / 4))
    }
    const i = offset % length
    const shift = i % 4 * 2
    piece[i >> 2] = piece[i >> 2]! & ~(3 << shift) | names.indexOf(outcome) << shift
    if (outcome === undefined && piece.every((byte) => byte === 0)) pieces.delete(number)
  }

  /** At most so many of other topics, or below the first offset of their partition. */
  stale(topicId: string, starts: ReadonlyArray<number>, most: number): ReadonlyArray<Where> {
    const found: Array<Where> = []
    for (const one of this.#partitions.values()) {
      const below = one.topicId === topicId ? starts[one.partition] ?? 0 : Infinity
      for (const [number, piece] of one.pieces) {
        if (number * length >= below) continue
        for (let i = 0; i < length && number * length + i < below; i++) {
          if (at(piece, i) === 0) continue
          if (found.length === most) return found
          found.push({ topicId: one.topicId, partition: one.partition, offset: number * length + i })
        }
      }
    }
    return found
  }
}

const at = (piece: Uint8Array, i: number): number => piece[i >> 2]! >> i % 4 * 2 & 3
