/** The messages that are sent: message `i` of a run is the same wherever it is asked for. */

export interface Run {
  readonly seed: number
  /** Messages per second. */
  readonly rate: number
  /** Senders that work side by side; all messages of a user are one sender's, in order. */
  readonly lanes: number
  /** Messages in a request. */
  readonly batch: number
  readonly usersPerLane: number
  /** When message 0 is due, in milliseconds since 1970. */
  readonly start: number
}

/** What becomes of a message if it is taken. */
export type Kind =
  | "click"
  | "identify"
  /** The collector refuses it and keeps it as a dead letter. */
  | "refused"
  /** It decodes, but names a page that cannot be: a dead letter of enrich. */
  | "invalid"
  /** Hours old: no session is kept for it. */
  | "too old for a session"
  /** Older than a minute stays open: stored, but not counted. */
  | "too old to count"

const minute = 60_000

/** 32 bits of chance that belong to a message. */
export const chance = (seed: number, i: number, what: number): number => {
  let t = Math.imul(i + 1, 0x9e3779b1) ^ Math.imul(seed + 1, 0x85ebca6b) ^ Math.imul(what + 1, 0xc2b2ae35)
  t = Math.imul(t ^ (t >>> 16), 0x7feb352d)
  t = Math.imul(t ^ (t >>> 15), 0x846ca68b)
  return (t ^ (t >>> 16)) >>> 0
}

const laneOf = ({ batch, lanes }: Run, i: number): number => Math.floor(i / batch) % lanes

/** Users are numbers from 0; their names are made of them. */
export const user = (run: Run, i: number): number =>
  laneOf(run, i) + run.lanes * (chance(run.seed, i, 0) % run.usersPerLane)

export const userName = (user: number): string => `user-${user}`

/** Until there is a stream time nothing is too old. */
const oldAfter = 20_000

export const kind = (run: Run, i: number): Kind => {
  const drawn = chance(run.seed, i, 1) % 1_000
  if (drawn >= 14) return "click"
  if (drawn >= 4) return "identify"
  if (drawn === 0) return "refused"
  if (drawn === 1) return "invalid"
  if (due(run, i) - run.start < oldAfter) return "click"
  return drawn === 2 ? "too old for a session" : "too old to count"
}

/** When it is sent if nothing is in the way. */
export const due = ({ rate, start }: Run, i: number): number => start + Math.floor(i * 1_000 / rate)

export const eventTime = (run: Run, i: number): number => {
  switch (kind(run, i)) {
    case "too old for a session":
      return due(run, i) - 180 * minute
    case "too old to count":
      return due(run, i) - 20 * minute
    default:
      return due(run, i)
  }
}

/** Names a message wherever it gets to. */
export const id = ({ seed }: Run, i: number): string => `chaos-${seed}-${i}`

/** The number in a message's name; -1 where it is not one of this run. */
export const numberOf = ({ seed }: Run, id: string): number => {
  const start = `chaos-${seed}-`
  const number = id.startsWith(start) ? Number(id.slice(start.length)) : NaN
  return Number.isInteger(number) ? number : -1
}

/** The message as a tracker sends it. */
export const message = (run: Run, i: number): object => {
  const what = kind(run, i)
  const common = {
    messageId: id(run, i),
    userId: userName(user(run, i)),
    timestamp: new Date(eventTime(run, i)).toISOString(),
  }
  if (what === "refused") return { ...common, type: "guess" }
  if (what === "identify") return { ...common, type: "identify", traits: { number: i } }
  const page = { path: `/articles/${chance(run.seed, i, 2) % 300}` }
  if (what === "invalid") return { ...common, type: "page", context: { page: { url: "nowhere" } } }
  return i % 2 === 0
    ? { ...common, type: "page", name: nameOf(i), context: { page } }
    : { ...common, type: "track", event: nameOf(i), context: { page } }
}

/** The name of a click, which is stored with it. */
export const nameOf = (i: number): string => `click ${i}`

export const minuteOf = (time: number): number => Math.floor(time / minute) * minute
