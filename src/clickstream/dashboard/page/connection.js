// @ts-check
/** The stream of figures, and what to say when it fails. */
import { clock, element, minute, second, stopwatch, toTheSecond, whole, write } from "./words.js"

const staleAfter = 5 * second
/** The server says something every ten seconds at least: after more silence the connection is gone, error or not. */
const silentAfter = 15 * second
/** A first answer may take this long before it is missed. */
const slowAfter = 10 * second

const started = performance.now()
/** When current figures last came, and when anything did, by this machine's clock. @type {number | undefined} */
let heard
let alive = started
/** When the last figures are of, by the server's clock. */
let figuresOf = 0
/** Since when the server cannot read all it should. @type {number | undefined} */
let trouble
/** @type {"waiting" | "open" | "broken"} */
let connection = "waiting"

/** @returns {{ state: "waiting" | "live" | "stale" | "gone", word: string, alarm: string, old: boolean }} */
const judge = () => {
  const now = performance.now()
  const age = heard === undefined ? 0 : now - heard
  const last = heard === undefined ? "" : `, last figures ${toTheSecond.format(figuresOf)}`
  const never = heard === undefined && (connection === "broken" || now - started > slowAfter)
  if (never) return { state: "gone", word: "No answer", alarm: "The server does not answer. Trying again", old: true }
  if (connection === "broken") {
    return { state: "gone", word: "Server gone", alarm: `Server gone for ${stopwatch(now - alive)}${last}`, old: true }
  }
  if (heard === undefined) return { state: "waiting", word: "Connecting", alarm: "", old: false }
  if (age > staleAfter) {
    const howOld = age < minute ? `${whole.format(Math.round(age / second))} s` : stopwatch(age)
    return { state: "stale", word: "Stale", alarm: `Figures are ${howOld} old${last}`, old: true }
  }
  if (trouble !== undefined) {
    const alarm = `Some figures cannot be read since ${clock.format(trouble)}. The server keeps trying`
    return { state: "stale", word: "Incomplete", alarm, old: false }
  }
  return { state: "live", word: "Live", alarm: "", old: false }
}

const showState = () => {
  const { state, word, alarm, old } = judge()
  const pill = element("state")
  if (pill.dataset["state"] !== state) pill.dataset["state"] = state
  write(pill, word)
  // Not in what is announced, for it changes every second.
  write(element("alarm"), alarm)
  element("alarm").hidden = alarm === ""
  element("alarm").classList.toggle("gone", state === "gone")
  document.body.classList.toggle("old", old)
  write(element("age"), heard === undefined || alarm !== "" ? "" : toTheSecond.format(figuresOf))
  const title = state === "gone" || old ? `${word}: Millrace` : "Millrace: clickstream"
  if (document.title !== title) document.title = title
}

/** Figures of this time have come. @param {number} at */
export const note = (at) => {
  heard = performance.now()
  figuresOf = at
  showState()
}

/**
 * Listens, for as long as the page is open. The browser tries again by itself after a break it sees, but not after a
 * silence, nor after an answer that is no stream.
 * @param {Readonly<Record<string, (data: any) => void>>} on by the events' names
 */
export const follow = (on) => {
  const source = new EventSource("/figures")
  const again = () => {
    clearInterval(watch)
    source.close()
    setTimeout(follow, 2 * second, on)
  }
  const watch = setInterval(() => {
    if (connection !== "open" || performance.now() - alive < silentAfter) return
    connection = "broken"
    showState()
    again()
  }, second)
  source.onopen = () => {
    connection = "open"
    trouble = undefined
    alive = performance.now()
    showState()
  }
  source.onerror = () => {
    connection = "broken"
    showState()
    if (source.readyState === EventSource.CLOSED) again()
  }
  const listeners = {
    ...on,
    beat: () => {},
    trouble: (/** @type {{ since: number | null }} */ { since }) => {
      trouble = since ?? undefined
      showState()
    },
  }
  for (const [name, show] of Object.entries(listeners)) {
    source.addEventListener(name, ({ data }) => {
      alive = performance.now()
      show(JSON.parse(data))
    })
  }
}

setInterval(showState, second)
