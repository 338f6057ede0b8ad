// @ts-check
/** Tables of names and counts. Everything that comes from outside is set as text, never as markup. */
import { element, write } from "./words.js"

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} [note] said below or beside the name
 * @property {string} value
 * @property {string} [more] a word on the value
 * @property {number} [share] of the largest, for a bar behind the name
 * @property {boolean} [warns]
 * @property {number} [tail] how many characters at the end stay when the name is cut
 */

/** Fills a table's body. @param {string} id @param {Row[]} content @param {string} none */
export const show = (id, content, none) => {
  const body = /** @type {HTMLTableSectionElement} */ (element(id))
  if (content.length === 0) return showNone(body, none)
  if (body.querySelector(".none") !== null) body.replaceChildren()
  content.forEach((row, i) => fill(body.rows[i] ?? add(body), row))
  while (body.rows.length > content.length) body.deleteRow(-1)
  offerWhole(body)
}

/** @param {HTMLTableSectionElement} body @param {string} none */
const showNone = (body, none) => {
  if (body.querySelector(".none")?.textContent === none) return
  body.replaceChildren()
  const cell = body.insertRow().insertCell()
  cell.colSpan = body.closest("table")?.tHead?.rows[0]?.cells.length ?? 1
  cell.className = "none"
  cell.textContent = none
  offerWhole(body)
}

/** @param {HTMLElement} parent @param {string} tag @param {string} name */
const append = (parent, tag, name) => {
  const made = document.createElement(tag)
  if (name !== "") made.className = name
  parent.append(made)
  return made
}

/** @param {HTMLTableSectionElement} body */
const add = (body) => {
  const row = body.insertRow()
  const header = /** @type {HTMLTableCellElement} */ (append(row, "th", ""))
  header.scope = "row"
  const name = append(header, "bdi", "name")
  append(name, "span", "head")
  append(name, "span", "tail")
  append(header, "small", "note")
  const cell = row.insertCell()
  append(cell, "span", "value")
  append(cell, "small", "more")
  return row
}

/** A name is in two parts, so that it is cut before its end, which is what tells most. @param {HTMLTableRowElement} row @param {Row} content */
const fill = (row, { name, note = "", value, more = "", share = 0, warns = false, tail = 0 }) => {
  const characters = Array.from(name)
  const at = Math.max(0, characters.length - tail)
  const texts = [characters.slice(0, at).join(""), characters.slice(at).join(""), note, value, more]
  row.querySelectorAll(".head, .tail, .note, .value, .more").forEach((part, i) => write(part, texts[i] ?? ""))
  const size = `${Math.round(1000 * Math.min(1, share)) / 10}%`
  if (row.style.getPropertyValue("--share") !== size) row.style.setProperty("--share", size)
  row.classList.toggle("warns", warns)
}

/** The button that shows names in full is there when one is cut. @param {HTMLElement} body */
const offerWhole = (body) => {
  const button = body.closest(".card")?.querySelector("button")
  if (!button) return
  const isCut = [...body.querySelectorAll(".head")].some(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth)
  button.hidden = !isCut && button.getAttribute("aria-pressed") !== "true"
}

for (const button of document.querySelectorAll("button.whole")) {
  const table = /** @type {HTMLTableElement} */ (button.closest(".card")?.querySelector("table"))
  button.addEventListener("click", () => {
    const isWhole = table.classList.toggle("in-full")
    button.setAttribute("aria-pressed", String(isWhole))
  })
  new ResizeObserver(() => table.tBodies[0] && offerWhole(table.tBodies[0])).observe(table)
}
