/** What is left of a failing list when everything is taken out of it that the failure does not need. */
import { Effect } from "effect"

/**
 * Delta debugging (Zeller and Hildebrandt, 2002): takes parts out, large ones first, for as long as what is left still
 * fails, until no single one can go. Answers the places that are left; tries at most `most` lists.
 */
export const shrink = <A, E, R>(
  all: ReadonlyArray<A>,
  fails: (some: ReadonlyArray<A>) => Effect.Effect<boolean, E, R>,
  most = 1_000,
): Effect.Effect<ReadonlyArray<number>, E, R> =>
  Effect.gen(function* () {
    let kept = all.map((_, i) => i)
    let tries = 0
    let size = Math.ceil(kept.length / 2)
    while (size >= 1 && tries < most) {
      let isSmaller = false
      // From the end: what happens last is most often not needed.
      for (let from = (Math.ceil(kept.length / size) - 1) * size; from >= 0 && tries < most; from -= size) {
        const without = [...kept.slice(0, from), ...kept.slice(from + size)]
        if (without.length === kept.length) continue
        tries++
        if (!(yield* fails(without.map((i) => all[i]!)))) continue
        kept = without
        isSmaller = true
      }
      if (size === 1 && !isSmaller) break
      if (size > 1) size = Math.ceil(size / 2)
    }
    return kept
  })

/** Places as text: `0,3-7`. */
export const textOf = (places: ReadonlyArray<number>): string => {
  const ranges: Array<[number, number]> = []
  for (const place of places) {
    const last = ranges.at(-1)
    if (last !== undefined && last[1] === place - 1) last[1] = place
    else ranges.push([place, place])
  }
  return ranges.map(([from, to]) => from === to ? `${from}` : `${from}-${to}`).join(",")
}

export const placesOf = (text: string): ReadonlySet<number> =>
  new Set(
    text.split(",").filter((range) => range !== "").flatMap((range) => {
      const [from, to = from] = range.split("-").map(Number)
      return Array.from({ length: to! - from! + 1 }, (_, i) => from! + i)
    }),
  )
