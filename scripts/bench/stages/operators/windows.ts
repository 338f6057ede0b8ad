/** Counts per key and window, of every kind and emission; and for ever. */
import { Aggregate, Fold, Window } from "../../../../src/index.ts"
import { AlignedWindows } from "../hand/aligned.ts"
import { textOf } from "../hand/loop.ts"
import { Counted, Sessions } from "../hand/sessions.ts"
import { SlidingWindows } from "../hand/sliding.ts"
import { count, type Mode, period, windowed, type Windows } from "../hand/windows.ts"
import type { Operator } from "../operator.ts"

const minute = 60_000
const gap = 10_000

interface Kind {
  readonly name: string
  readonly window: Window.Any
  /** The windows by hand. */
  hand(mode: Mode): Windows
  /** Emitted how results grow with keys is measured too. */
  readonly keyed: ReadonlyArray<Mode>
  readonly thousands?: number
}

const aligned = (size: number, every: number) => (mode: Mode) => new AlignedWindows({ size, every, mode, fold: count })

const kinds: ReadonlyArray<Kind> = [
  {
    name: "tumbling",
    window: Window.tumbling({ size: minute }),
    hand: aligned(minute, minute),
    keyed: ["final", "updates"],
  },
  {
    name: "hopping by a fifth",
    window: Window.hopping({ size: minute, every: "12 seconds" }),
    hand: aligned(minute, 12_000),
    keyed: ["final"],
    thousands: 300,
  },
  {
    name: "sliding",
    window: Window.sliding({ difference: minute }),
    hand: (mode) => new SlidingWindows(minute, mode),
    keyed: ["final"],
    thousands: 200,
  },
  {
    name: "session",
    window: Window.session({ gap }),
    hand: (mode) => new Sessions(gap, mode),
    keyed: ["final"],
  },
  {
    name: "10 records",
    window: Window.count({ size: 10 }),
    hand: (mode) => new Counted(10, mode),
    keyed: ["final"],
  },
]

const emits: Readonly<Record<Mode, readonly [name: string, emit: Aggregate.Emit]>> = {
  final: ["final", "final"],
  updates: ["updates", "updates"],
  periods: ["every 10 s", { every: period }],
}

const operator = (kind: Kind, mode: Mode): Operator => {
  const [name, emit] = emits[mode]
  return {
    name: `count, ${kind.name}, ${name}`,
    compared: "unordered",
    ...kind.keyed.includes(mode) && { isKeyed: true },
    ...kind.thousands !== undefined && { thousands: kind.thousands },
    flow: (left) => left.pipe(Aggregate.count({ name: "counts", window: kind.window, emit })),
    loop: () => windowed(mode, kind.hand(mode)),
  }
}

export const windows: ReadonlyArray<Operator> = [
  ...kinds.flatMap((kind) => (["final", "updates", "periods"] as const).map((mode) => operator(kind, mode))),
  {
    name: "Aggregate.running, count, updates",
    isKeyed: true,
    compared: "unordered",
    flow: (left) => left.pipe(Aggregate.running({ name: "counts", fold: Fold.count })),
    loop: () => {
      const counts = new Map<string, number>()
      return {
        take: ({ source: { keys } }) => {
          const touched = new Set<string>()
          for (const bytes of keys) {
            const key = textOf(bytes)
            counts.set(key, (counts.get(key) ?? 0) + 1)
            touched.add(key)
          }
          return Array.from(touched, (key) => ({ key, value: counts.get(key)! }))
        },
      }
    },
  },
]
