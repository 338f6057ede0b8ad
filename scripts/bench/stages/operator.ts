/** What is measured: a stage of the library, and the same work by hand. */
import type { Flow } from "../../../src/index.ts"
import type { Drivable } from "./drive.ts"
import type { Loop } from "./hand/loop.ts"
import type { Fed, Reading, Shape } from "./input.ts"

export type Readings = Flow.Flow<Reading>

export interface Operator extends Fed {
  readonly name: string
  /** Whether it keeps something of each key: its cost is measured as keys grow. */
  readonly isKeyed?: true
  /** Records that it takes a second or two to work on, in thousands; 500 unless given. */
  readonly thousands?: number
  /**
   * What must be equal to what the loop makes: all values in order unless given; in any order; of each key the last; or the
   * records that it sends. For the last two the loop answers `[key, value]`.
   */
  readonly compared?: "unordered" | "last" | "outgoing"
  flow(left: Readings, right: Readings, shape: Shape): Drivable
  loop(shape: Shape): Loop
}

/** The same, where the two sides change places only after so many records. */
export const calmly = ({ isKeyed: _, ...operator }: Operator): Operator => ({
  ...operator,
  name: `${operator.name}, in runs of 250`,
  inRuns: 250,
})
