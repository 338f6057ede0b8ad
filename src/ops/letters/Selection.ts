/** Which dead letters are meant. */
import { Buffer } from "node:buffer"
import type { Letter } from "./Letter.ts"

/** All that is given must hold; a selection with nothing in it means every letter. */
export interface Selection {
  /** Any of these. */
  readonly reasons?: ReadonlyArray<string>
  /** When the letter was written: milliseconds since 1970, the first included and the last not. */
  readonly since?: number
  readonly until?: number
  /** The record's key: as text, or the very bytes of one that is none. */
  readonly key?: string | Uint8Array
}

export const isSelected = ({ reasons, since = -Infinity, until = Infinity, key }: Selection, letter: Letter): boolean =>
  (reasons === undefined || reasons.includes(letter.reason)) && letter.timestamp >= since && letter.timestamp < until &&
  (key === undefined || letter.key !== null && Buffer.compare(letter.key, Buffer.from(key)) === 0)
