/**
 * What windows must come to, from what their documentation says and without any of the library: computed anew for every
 * record over all records before it.
 */
import type { Window } from "../../src/index.ts"

export interface Given {
  readonly key: string | null
  readonly at: number
}

export interface Came extends Given {
  readonly id: string
  /** Stream time with this record. */
  readonly clock: number
}

/** What a window holds: the ids of its records, in the order in which they were put together. */
export interface Held {
  readonly key: string
  readonly start: number
  readonly end: number
  readonly ids: ReadonlyArray<string>
}

export const came = (given: ReadonlyArray<Given>): ReadonlyArray<Came> => {
  let clock = -Infinity
  return given.map(({ key, at }, i) => ({ key, at, id: `${i}`, clock: clock = Math.max(clock, at) }))
}

/** A kind of window: what all windows hold after some records, and which of them have closed at a stream time. */
export interface Kind {
  known(records: ReadonlyArray<Came>): ReadonlyArray<Held>
  isClosed(held: Held, clock: number): boolean
  /** Whether a record that comes after others is in no window, or not in all that it belongs to. */
  lateness(record: Came, before: ReadonlyArray<Came>): "late" | "partly" | undefined
}

const keysOf = (records: ReadonlyArray<Came>): ReadonlyArray<string> => [
  ...new Set(records.flatMap(({ key }) => key === null ? [] : [key])),
]

export const aligned = ({ size, every, grace }: Window.Aligned): Kind => {
  const starts = (at: number) =>
    Array.from({ length: Math.ceil(size / every) + 1 }, (_, n) => (Math.floor(at / every) - n) * every)
      .filter((start) => start + size > at)
  const takes = (start: number, { clock }: Came) => start + size > clock - grace
  return {
    known: (records) =>
      keysOf(records).flatMap((key) => {
        const own = records.filter((record) => record.key === key)
        return [...new Set(own.flatMap(({ at }) => starts(at)))].map((start) => ({
          key,
          start,
          end: start + size,
          ids: own.filter((record) => starts(record.at).includes(start) && takes(start, record)).map(({ id }) => id),
        })).filter(({ ids }) => ids.length > 0)
      }),
    isClosed: ({ end }, clock) => end <= clock - grace,
    lateness: (record) => {
      const all = starts(record.at)
      const open = all.filter((start) => takes(start, record))
      return open.length === 0 ? "late" : open.length < all.length ? "partly" : undefined
    },
  }
}

export const sliding = ({ difference, grace }: Window.Sliding): Kind => {
  const isLate = ({ at, clock }: Came) => at + difference < clock - grace
  return {
    known: (records) =>
      keysOf(records).flatMap((key) => {
        const own = records.filter((record) => record.key === key && !isLate(record))
        const before = own.filter(({ at, clock }) => at >= clock - grace).map(({ at }) => at)
        const after = own.map(({ at }) => at + 1 + difference)
        return [...new Set([...before, ...after])].map((end) => ({
          key,
          start: end - difference,
          end,
          ids: own.filter(({ at, clock }) => at >= end - difference && at <= end && end >= clock - grace)
            .toSorted((a, b) => a.at - b.at)
            .map(({ id }) => id),
        })).filter(({ ids }) => ids.length > 0)
      }),
    isClosed: ({ end }, clock) => end < clock - grace,
    lateness: (record) => isLate(record) ? "late" : record.at < record.clock - grace ? "partly" : undefined,
  }
}

export const session = ({ gap, grace }: Window.Session): Kind => {
  const isClosed = ({ end }: { readonly end: number }, clock: number) => end < clock - gap - grace
  const isLate = (record: Came, sessions: ReadonlyArray<Held>) =>
    record.at < record.clock - gap - grace && !sessions.some((session) => isNear(session, record))
  const isNear = (session: Held, { key, at, clock }: Came) =>
    session.key === key && !isClosed(session, clock) && at <= session.end + gap &&
    at >= (at < clock - gap - grace ? session.start : session.start - gap)
  const known = (records: ReadonlyArray<Came>): ReadonlyArray<Held> =>
    records.reduce<ReadonlyArray<Held>>((sessions, record) => {
      if (record.key === null || isLate(record, sessions)) return sessions
      const near = sessions.filter((session) => isNear(session, record)).toSorted((a, b) => a.start - b.start)
      return [...sessions.filter((session) => !near.includes(session)), {
        key: record.key,
        start: Math.min(record.at, ...near.map(({ start }) => start)),
        end: Math.max(record.at, ...near.map(({ end }) => end)),
        ids: [...near.flatMap(({ ids }) => ids), record.id],
      }]
    }, [])
  return {
    known,
    isClosed,
    lateness: (record, before) => isLate(record, known(before)) ? "late" : undefined,
  }
}

export interface Emitted extends Held {
  readonly final: boolean
  readonly retracted: boolean
}

const nameOf = ({ key, start }: Held) => `${key}@${start}`

/** What is told, of each key in order: where results are emitted by periods, or only as final. */
export const told = (kind: Kind, records: ReadonlyArray<Came>, period = Infinity): ReadonlyArray<Emitted> => {
  const all: Array<Emitted> = []
  const tell = (held: Held, how: { readonly final?: true; readonly retracted?: true }) =>
    void all.push({ ...held, final: false, retracted: false, ...how })
  let shown = new Map<string, Held>()
  records.forEach(({ clock }, i) => {
    const known = kind.known(records.slice(0, i)).toSorted((a, b) => a.end - b.end)
    const before = records[i - 1]?.clock ?? -Infinity
    for (const held of known) {
      if (kind.isClosed(held, clock) && !kind.isClosed(held, before)) tell(held, { final: true })
    }
    if (Math.floor(clock / period) === Math.floor(before / period)) return
    const open = new Map(known.filter((held) => !kind.isClosed(held, clock)).map((held) => [nameOf(held), held]))
    const news = [
      ...Array.from(open.values()).filter((held) => held.ids.join() !== shown.get(nameOf(held))?.ids.join())
        .map((held) => ({ held, retracted: false })),
      ...Array.from(shown.values()).filter((held) => !known.some((other) => nameOf(other) === nameOf(held)))
        .map((held) => ({ held, retracted: true })),
    ]
    for (const { held, retracted } of news.toSorted((a, b) => a.held.start - b.held.start)) {
      tell(held, retracted ? { retracted } : {})
    }
    shown = open
  })
  return all
}

/** The last that is said of every window, where results are emitted with the batches that change them. */
export const last = (kind: Kind, records: ReadonlyArray<Came>): ReadonlyMap<string, Emitted> => {
  const said = new Map<string, Emitted>()
  records.forEach((_, i) => {
    const before = kind.known(records.slice(0, i))
    const after = kind.known(records.slice(0, i + 1))
    for (const held of before) {
      if (!after.some((other) => nameOf(other) === nameOf(held))) {
        said.set(nameOf(held), { ...held, final: false, retracted: true })
      }
    }
    const clock = records.at(-1)!.clock
    for (const held of after) said.set(nameOf(held), { ...held, final: kind.isClosed(held, clock), retracted: false })
  })
  return said
}

export interface NaiveCounted extends Held {
  readonly number: number
  readonly final: boolean
}

/** Count windows: all that are full or timed out, and those that are not, of each key in order. */
export const counted = ({ size, every, timeout = Infinity }: Window.Count, records: ReadonlyArray<Came>) => {
  const now = records.at(-1)?.clock ?? -Infinity
  return keysOf(records).flatMap((key) => {
    const own = records.filter((record) => record.key === key)
    const runs = own.reduce<ReadonlyArray<ReadonlyArray<Came>>>((runs, record) => {
      const current = runs.at(-1)
      const isNew = current === undefined || record.clock >= current.at(-1)!.clock + timeout
      return isNew ? [...runs, [record]] : [...runs.slice(0, -1), [...current, record]]
    }, [])
    return runs.flatMap((run) => {
      const isOver = now >= run.at(-1)!.clock + timeout || run !== runs.at(-1)
      return Array.from({ length: Math.ceil(run.length / every) }, (_, number): NaiveCounted => {
        const inside = run.slice(number * every, number * every + size)
        return {
          key,
          number,
          start: Math.min(...inside.map(({ at }) => at)),
          end: Math.max(...inside.map(({ at }) => at)),
          ids: inside.map(({ id }) => id),
          final: inside.length === size || isOver,
        }
      })
    })
  })
}
