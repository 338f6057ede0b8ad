/** Tumbling, hopping and sliding windows, and sessions. */
import type { Held, Kind, Taken } from "./Windowing.ts"

/** `[start, start + size)`, from every multiple of `every` on. */
export const aligned = (
  { size, every, grace }: { readonly size: number; readonly every: number; readonly grace: number },
): Kind => {
  const startsOf = (at: number) => {
    const starts: Array<number> = []
    for (let start = Math.floor(at / every) * every; start > at - size; start -= every) starts.push(start)
    return starts
  }
  const isOver = (start: number, now: number) => start + size <= now - grace
  return {
    add: (known, { value, now }) => {
      const starts = startsOf(value.at).filter((start) => !isOver(start, now))
      const isOne = ({ key, start }: Held) => key === value.key && starts.includes(start)
      const fresh = starts.filter((start) => !known.some((held) => held.key === value.key && held.start === start))
      return [
        ...known.map((held) => isOne(held) ? { ...held, values: [...held.values, value] } : held),
        ...fresh.map((start) => ({ key: value.key!, start, end: start + size, values: [value] })),
      ]
    },
    isClosed: ({ start }, now) => isOver(start, now),
    lateness: ({ at }, now) => {
      const starts = startsOf(at)
      const over = starts.filter((start) => isOver(start, now))
      return over.length === starts.length ? "late" : over.length > 0 ? "partly" : undefined
    },
    time: ({ start }) => start,
    // The start of the latest window that has closed.
    clock: (now) => Math.floor((now - grace - size) / every) * every,
  }
}

/**
 * For every record the window that ends with it, and the one that begins after it where that holds others: both ends are in it.
 */
export const sliding = ({ difference, grace }: { readonly difference: number; readonly grace: number }): Kind => ({
  add: (known, { value: { key } }, all) => {
    const own = all.filter(({ value }) => value.key === key)
    const ends = new Set([
      ...own.filter(({ value: { at }, now }) => at >= now - grace).map(({ value: { at } }) => at),
      ...own.map(({ value: { at } }) => at + 1 + difference),
    ])
    const holds = (end: number) => ({ value: { at }, now }: Taken) =>
      at >= end - difference && at <= end && end >= now - grace
    const made = Array.from(ends, (end): Held => ({
      key: key!,
      start: end - difference,
      end,
      values: own.filter(holds(end)).map(({ value }) => value).sort((a, b) => a.at - b.at),
    }))
    return [...known.filter((held) => held.key !== key), ...made.filter(({ values }) => values.length > 0)]
  },
  isClosed: ({ end }, now) => end < now - grace,
  lateness: ({ at }, now) => at + difference < now - grace ? "late" : at < now - grace ? "partly" : undefined,
  time: ({ end }) => end,
  clock: (now) => Math.floor(now) - grace,
})

/** From the first to the last record between which there is no silence of more than `gap`. */
export const session = ({ gap, grace }: { readonly gap: number; readonly grace: number }): Kind => {
  const isClosed = ({ end }: Held, now: number) => end < now - gap - grace
  /** Where others have closed no session begins, nor begins earlier than it did. */
  const isNear = (held: Held, { value: { key, at }, now }: Taken) =>
    held.key === key && !isClosed(held, now) && at <= held.end + gap &&
    at >= (at < now - gap - grace ? held.start : held.start - gap)
  return {
    add: (known, taken) => {
      const { value } = taken
      const near = known.filter((held) => isNear(held, taken)).sort((a, b) => a.start - b.start)
      return [...known.filter((held) => !near.includes(held)), {
        key: value.key!,
        start: Math.min(value.at, ...near.map(({ start }) => start)),
        end: Math.max(value.at, ...near.map(({ end }) => end)),
        values: [...near.flatMap(({ values }) => values), value],
      }]
    },
    isClosed,
    lateness: (value, now, known) =>
      value.at < now - gap - grace && !known.some((held) => isNear(held, { value, now })) ? "late" : undefined,
    time: ({ end }) => end,
    clock: (now) => now - gap - grace,
  }
}
