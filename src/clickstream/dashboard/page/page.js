// @ts-check
/** Follows the server's figures and shows them. */
import * as chart from "./chart.js"
import { follow, note } from "./connection.js"
import { show } from "./tables.js"
import { clock, element, inMinutes, minute, moment, precise, reasons, whole, write } from "./words.js"

/** Where a first click can be sent to, if the server knows. @type {{ key: string, url?: string } | null} */
let collector = null

/** So many minutes are shown: of the first hour only what there can be. @param {number} at @param {number | null} first */
const windowOf = (at, first) => [15, 30].find((minutes) => first === null || at - first < minutes * minute) ?? 60

/** @typedef {{ at: number, minutes: [number, number][], before: number | null, rate: number | null, activeSessions: number, sessionGap: number, first: number | null, newest: number | null }} Current */

/** @param {Current} figures */
const showCurrent = ({ at, minutes, before, rate, activeSessions, sessionGap, first, newest }) => {
  note(at)
  const counts = new Map(minutes)
  const last = Math.floor(at / minute) * minute
  const total = minutes.reduce((sum, [, clicks]) => sum + clicks, 0)
  const full = total - (counts.get(last) ?? 0)
  write(element("rate"), rate === null ? "–" : (rate < 100 ? precise : whole).format(rate))
  write(element("hour"), whole.format(total))
  write(element("change"), comparison(full, before, at, first))
  write(element("sessions"), whole.format(activeSessions))
  write(element("gap"), `in the last ${inMinutes(sessionGap)}`)
  showMinutes(counts, last, windowOf(at, first))
  showNotice(total, newest)
}

/** @param {number} full @param {number | null} before @param {number} at @param {number | null} first */
const comparison = (full, before, at, first) => {
  if (!before) return first !== null && at - first < 60 * minute ? `since ${clock.format(first)}` : ""
  const percent = Math.round(100 * (full / before - 1))
  return percent === 0
    ? "as in the hour before"
    : `${whole.format(Math.abs(percent))} % ${percent > 0 ? "more" : "less"} than the hour before`
}

const details = /** @type {HTMLDetailsElement} */ (document.querySelector("details"))
let showTable = () => {}
details.addEventListener("toggle", () => showTable())

/** @param {Map<number, number>} counts @param {number} last @param {number} length */
const showMinutes = (counts, last, length) => {
  const times = Array.from({ length }, (_, i) => last - (length - 1 - i) * minute)
  const clicksAt = (/** @type {number} */ time) => counts.get(time) ?? 0
  const begun = times.findIndex((time) => counts.has(time))
  // The first minute with clicks may have begun before they did.
  const full = begun < 0 ? [] : times.slice(begun + 1, -1).map(clicksAt)
  const mean = full.length < 2 ? null : full.reduce((sum, clicks) => sum + clicks, 0) / full.length
  chart.show([
    times.map((time) => time / 1000),
    times.map((time) => time === last ? null : counts.get(time) ?? null),
    times.map((time) => time === last ? counts.get(time) ?? null : null),
  ], mean)
  write(element("window"), `last ${length} min`)
  element("mean").hidden = mean === null
  write(element("mean"), mean === null ? "" : `mean ${(mean < 100 ? precise : whole).format(mean)}`)
  const sum = times.reduce((sum, time) => sum + clicksAt(time), 0)
  const label = `Clicks per minute over the last ${length} minutes: ${whole.format(sum)} in all, ` +
    `${whole.format(clicksAt(last - minute))} in the last full minute, ` +
    `${whole.format(Math.max(0, ...times.map(clicksAt)))} at most`
  if (element("chart").ariaLabel !== label) element("chart").ariaLabel = label
  showTable = () => {
    if (!details.open) return
    const rows = times.toReversed().map((time) => ({
      name: clock.format(time),
      value: whole.format(clicksAt(time)),
      more: time === last ? "so far" : "",
    }))
    show("minutes", rows, "")
  }
  showTable()
}

/** @param {number} total @param {number | null} newest */
const showNotice = (total, newest) => {
  const notice = element("notice")
  notice.hidden = total > 0
  if (total > 0) return
  const what = newest === null
    ? "No clicks yet."
    : `No clicks in the last hour; the newest are of ${moment.format(newest)}.`
  const line = collector === null
    ? ""
    : `curl -u ${collector.key}: ${collector.url ?? location.origin}/v1/track -d '{"anonymousId":"me","event":"Hello"}'`
  const next = line === "" ? " They show here as soon as they are stored." : " Send one: "
  if (notice.textContent === what + next + line) return
  notice.replaceChildren(what + next)
  if (line !== "") notice.appendChild(document.createElement("code")).textContent = line
}

/** @typedef {{ step: string, topic: string, records: number | null, state: "steady" | "growing" | "stopped" }} Lag */
/** @typedef {{ users: [string, number][], pages: [string, number][], deadLetters: [string, number][], late: number, lag: Lag[] | null }} Slow */

/** @param {Slow} figures */
const showSlow = ({ users, pages, deadLetters, late, lag }) => {
  show("users", ranking(users, 6), "Nobody in the last 15 minutes")
  show("pages", ranking(pages, 10), "None in the last 15 minutes")
  show(
    "letters",
    deadLetters.map(([name, count]) => ({ name, note: reasons[name] ?? "", value: whole.format(count) })),
    "None in the last 24 hours",
  )
  showAmount("dead", deadLetters.reduce((sum, [, count]) => sum + count, 0))
  showAmount("late", late)
  show("lag", lag === null ? [] : lag.map(lagRow(lag)), "Kafka does not answer")
}

/** What should be nothing stands out where it is not. @param {string} id @param {number} amount */
const showAmount = (id, amount) => {
  write(element(id), whole.format(amount))
  element(id).parentElement?.classList.toggle("some", amount > 0)
}

/** @param {[string, number][]} counts @param {number} tail */
const ranking = (counts, tail) => {
  const most = Math.max(1, ...counts.map(([, count]) => count))
  return counts.map(([name, count]) => ({ name, value: whole.format(count), share: count / most, tail }))
}

/** A few records are always under way: the bars' scale is never less than a thousand. @param {Lag[]} all */
const lagRow = (all) => {
  const most = Math.max(1_000, ...all.map(({ records }) => records ?? 0))
  return (/** @type {Lag} */ { step, topic, records, state }) => ({
    name: step,
    note: topic,
    value: records === null ? "never read" : whole.format(records),
    more: state === "stopped" && records !== null ? "stopped" : state === "growing" ? "growing" : "",
    share: (records ?? 0) / most,
    warns: state !== "steady" || records === null,
  })
}

follow({
  hello: (data) => collector = data.collector,
  current: showCurrent,
  slow: showSlow,
})
