// @ts-check
/** Follows the server's figures and draws them. Everything that comes from outside is set as text, never as markup. */
// @ts-expect-error served beside this file, from the chart library's package
import uPlot from "/uplot.js"

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id))

const whole = new Intl.NumberFormat()
const precise = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 })
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" })
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" })

const minute = 60_000
const staleAfter = 5_000
/** The server says something every ten seconds at least: after more silence the connection is gone, error or not. */
const silentAfter = 15_000

/** When figures last came, and when anything did, by this machine's clock. */
let heard = 0
let alive = 0
/** Since when the server cannot read its tables. @type {number | undefined} */
let trouble
let connected = false
let empty = false

/** @param {string} id @param {string} text */
const write = (id, text) => {
  const target = element(id)
  if (target.textContent !== text) target.textContent = text
}

/** The server's colours, as the page has them in this mode. @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/** @type {any} */
let chart
/** Minutes, clicks of full minutes, clicks of the one that is not over. @type {[number[], (number | null)[], (number | null)[]]} */
let data = [[], [], []]

/** @param {string} label @param {string} fill */
const minuteBars = (label, fill) => ({
  label,
  fill: colour(fill),
  width: 0,
  paths: uPlot.paths.bars({ size: [0.82, 40], align: 1, radius: 0.12 }),
  points: { show: false },
})

const draw = () => {
  const place = element("chart")
  chart?.destroy()
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } }
  chart = new uPlot(
    {
      width: place.clientWidth,
      height: place.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 } },
      scales: {
        x: {
          range: (/** @type {any} */ _, /** @type {number} */ first, /** @type {number} */ last) => [first, last + 60],
        },
        y: {
          range: (
            /** @type {any} */ _,
            /** @type {number} */ _least,
            /** @type {number} */ most,
          ) => [0, Math.max(4, most * 1.1)],
        },
      },
      axes: [
        {
          ...axis,
          values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((second) => clock.format(second * 1000)),
          space: 70,
        },
        {
          ...axis,
          values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((count) => whole.format(count)),
          size: 62,
        },
      ],
      series: [{}, minuteBars("Clicks", "--accent"), minuteBars("Clicks so far", "--accent-soft")],
    },
    data,
    place,
  )
}

/** @param {{ at: number, minutes: [number, number][], rate: number, activeSessions: number, newest: number | null }} figures */
const showCurrent = ({ at, minutes, rate, activeSessions, newest }) => {
  heard = performance.now()
  const counts = new Map(minutes)
  const last = Math.floor(at / minute) * minute
  const times = Array.from({ length: 60 }, (_, i) => last - (59 - i) * minute)
  data = [
    times.map((time) => time / 1000),
    times.map((time) => time === last ? null : counts.get(time) ?? null),
    times.map((time) => time === last ? counts.get(time) ?? null : null),
  ]
  chart?.setData(data)
  const total = minutes.reduce((sum, [, clicks]) => sum + clicks, 0)
  write("rate", precise.format(rate))
  write("hour", whole.format(total))
  write("sessions", whole.format(activeSessions))
  element("chart").setAttribute(
    "aria-label",
    `Clicks per minute over the last hour: ${whole.format(total)} in all, ${
      whole.format(counts.get(last - minute) ?? 0)
    } ` +
      `in the last full minute, ${whole.format(Math.max(0, ...counts.values()))} at most`,
  )
  minuteRows = times.toReversed().map((time) => [clock.format(time), whole.format(counts.get(time) ?? 0)])
  showMinutes()
  empty = total === 0
  const notice = element("notice")
  notice.hidden = !empty
  if (empty) {
    notice.textContent = newest === null
      ? "No clicks yet. Send one: "
      : `No clicks in the last hour; the newest are of ${moment.format(newest)}. Send one: `
    const line = document.createElement("code")
    line.textContent = `curl -u demo: ${location.origin}/v1/track -d '{"anonymousId":"me","event":"Hello"}'`
    notice.append(line)
  }
  showState()
}

/** @type {string[][]} */
let minuteRows = []
const details = /** @type {HTMLDetailsElement} */ (document.querySelector("details"))
const showMinutes = () => details.open && rows("minutes", minuteRows, "")
details.addEventListener("toggle", showMinutes)

/** What tables show, so that they are left alone while it is the same. @type {Map<string, string>} */
const shown = new Map()

/** @param {any} figures */
const showSlow = ({ users, pages, deadLetters, late, lag }) => {
  bars("users", users, "Nobody in the last 15 minutes")
  bars("pages", pages, "None in the last 15 minutes")
  rows(
    "letters",
    deadLetters.map((/** @type {[string, number]} */ [reason, count]) => [reason, whole.format(count)]),
    "None",
  )
  write(
    "dead",
    whole.format(
      deadLetters.reduce((/** @type {number} */ sum, /** @type {[string, number]} */ [, count]) => sum + count, 0),
    ),
  )
  write("late", whole.format(late))
  if (lag === null) rows("lag", [], "Kafka does not answer")
  else {
    rows(
      "lag",
      lag.map((/** @type {any} */ { group, topic, records }) => [topic, group, whole.format(records)]),
      "No group has read anything yet",
    )
  }
}

/** @param {string} id @param {[string, number][]} counts @param {string} none */
const bars = (id, counts, none) => {
  const most = Math.max(1, ...counts.map(([, count]) => count))
  const made = rows(id, counts.map(([name, count]) => [name, whole.format(count)]), none)
  made.forEach((row, i) => {
    if (counts[i] === undefined) return
    row.classList.add("bar")
    row.style.setProperty("--share", `${100 * counts[i][1] / most}%`)
  })
}

/** Fills a table's body; cells that are cut short tell all of it on hover. @param {string} id @param {string[][]} cells @param {string} none */
const rows = (id, cells, none) => {
  const content = JSON.stringify([cells, none])
  if (shown.get(id) === content) return []
  shown.set(id, content)
  const made = cells.map((texts) => {
    const row = document.createElement("tr")
    for (const text of texts) {
      const cell = row.insertCell()
      cell.textContent = text
      cell.title = text
    }
    return row
  })
  if (made.length === 0) {
    const row = document.createElement("tr")
    const cell = row.insertCell()
    cell.colSpan = 3
    cell.className = "none"
    cell.textContent = none
    made.push(row)
  }
  element(id).replaceChildren(...made)
  return made
}

const showState = () => {
  const age = performance.now() - heard
  const isOld = heard > 0 && age > staleAfter
  const state = element("state")
  const [name, text] = !connected
    ? ["gone", heard === 0 ? "The server does not answer" : "The server is gone. Trying again"]
    : trouble !== undefined
    ? ["stale", `Not all can be read since ${clock.format(trouble)}`]
    : heard === 0
    ? ["waiting", "Connecting"]
    : isOld
    ? ["stale", "Stale"]
    : ["live", "Live"]
  if (state.dataset["state"] !== name) state.dataset["state"] = name
  write("state", text)
  // Beside what is announced, for it changes every second.
  write("age", isOld ? `figures are ${whole.format(Math.round(age / 1000))} s old` : "")
}

/** The browser tries again by itself after a break it sees, but not after a silence, nor after an answer that is no stream. */
const follow = () => {
  const source = new EventSource("/figures")
  const again = () => {
    clearInterval(watch)
    source.close()
    setTimeout(follow, 2_000)
  }
  const watch = setInterval(() => {
    if (!connected || performance.now() - alive < silentAfter) return
    connected = false
    showState()
    again()
  }, 1_000)
  source.onopen = () => {
    connected = true
    trouble = undefined
    alive = performance.now()
    showState()
  }
  source.onerror = () => {
    connected = false
    showState()
    if (source.readyState === EventSource.CLOSED) again()
  }
  /** @param {string} name @param {(data: any) => void} show */
  const on = (name, show) =>
    source.addEventListener(name, ({ data }) => {
      alive = performance.now()
      show(JSON.parse(data))
    })
  on("beat", () => {})
  on("current", showCurrent)
  on("slow", showSlow)
  on("trouble", ({ since }) => {
    trouble = since ?? undefined
    showState()
  })
}

draw()
follow()
setInterval(showState, 1_000)
new ResizeObserver(() => {
  const place = element("chart")
  chart?.setSize({ width: place.clientWidth, height: place.clientHeight })
}).observe(element("chart"))
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw)
