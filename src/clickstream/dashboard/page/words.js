// @ts-check
/** Numbers, times and reasons as people say them, and the one way in which text gets onto the page. */

export const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 })
export const precise = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 })
export const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" })
export const toTheSecond = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" })
export const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" })

export const second = 1_000
export const minute = 60_000

/** A length of time as a stopwatch shows it: 1:20, or 2:03:09. @param {number} millis */
export const stopwatch = (millis) => {
  const seconds = Math.max(0, Math.floor(millis / second))
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0")
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`
}

/** @param {number} millis */
export const inMinutes = (millis) =>
  millis < minute
    ? `${whole.format(Math.round(millis / second))} s`
    : `${whole.format(Math.round(millis / minute))} min`

/** @param {string} id */
export const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id))

/** Sets text, never markup, and leaves what is unchanged alone. @param {Element} target @param {string} text */
export const write = (target, text) => {
  if (target.textContent !== text) target.textContent = text
}

/** What the classes of dead letters mean. @type {Readonly<Record<string, string | undefined>>} */
export const reasons = {
  DecodeError: "does not fit the topic’s contract",
  InvalidClick: "cannot be a click",
  InvalidMessage: "is no valid tracking message",
  Keyless: "has no key to count it by",
  MalformedLine: "a line that is no access log entry",
  TooLarge: "is larger than the topic takes",
  UndecodableBody: "a request body that cannot be read",
  Undeliverable: "could not be written to its topic",
}
