// @ts-check
/** Clicks per minute as bars; the minute that is not over yet is a lighter one. */
// @ts-expect-error served beside this file, from the chart library's package
import uPlot from "/uplot.js"
import { clock, element, whole, write } from "./words.js"

/** Minutes in seconds since 1970, clicks of full minutes, clicks of the one that is not over. @typedef {[number[], (number | null)[], (number | null)[]]} Columns */

/** @type {any} */
let plot
/** @type {Columns} */
let data = [[], [], []]
/** @type {number | null} */
let mean = null

const place = element("chart")
const tip = document.createElement("div")
tip.className = "tip"
const band = document.createElement("div")
band.className = "band"

/** A colour or size as the page has it in this mode. @param {string} name */
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

/** Hours and minutes are enough on an axis of an hour. @param {number} second */
const label = (second) =>
  clock.formatToParts(second * 1000).filter(({ type }) => type !== "dayPeriod").map(({ value }) => value).join("")
    .trim()

/** @param {string} fill */
const bars = (fill) => ({
  fill: style(fill),
  width: 0,
  paths: uPlot.paths.bars({ size: [0.8, 90], align: 1, radius: 0.12 }),
  points: { show: false },
})

const draw = () => {
  const rem = Number.parseFloat(getComputedStyle(document.documentElement).fontSize)
  const small = 0.78 * rem
  const axis = {
    font: `${small}px ${getComputedStyle(document.body).fontFamily}`,
    stroke: style("--soft"),
    ticks: { show: false },
  }
  plot?.destroy()
  plot = new uPlot(
    {
      width: place.clientWidth,
      height: place.clientHeight,
      // The last label of the time axis is half outside of the plot.
      padding: [0.5 * rem, 1.4 * rem, 0, 0],
      legend: { show: false },
      cursor: { y: false, x: false, drag: { setScale: false }, points: { show: false } },
      scales: {
        x: {
          range: (/** @type {any} */ _, /** @type {number} */ first, /** @type {number} */ last) => [first, last + 60],
        },
        y: {
          range: (
            /** @type {any} */ _,
            /** @type {number} */ _least,
            /** @type {number} */ most,
          ) => [0, Math.max(4, most * 1.08)],
        },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map(label),
          space: Math.max(3.4 * rem, place.clientWidth / 12),
          size: 1.7 * rem,
          gap: 0.4 * rem,
        },
        {
          ...axis,
          grid: { stroke: style("--line"), width: 1 },
          // Whole clicks only.
          incrs: Array.from({ length: 27 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3)),
          values: (/** @type {any} */ _, /** @type {number[]} */ at) => at.map((count) => whole.format(count)),
          space: 2.6 * rem,
          size: (/** @type {any} */ _, /** @type {string[] | null} */ labels) =>
            Math.max(2, ...(labels ?? []).map(({ length }) => length)) * small * 0.62 + 0.6 * rem,
          gap: 0.4 * rem,
        },
      ],
      series: [{}, bars("--accent"), bars("--accent-soft")],
      hooks: { draw: [drawMean], setCursor: [tell] },
    },
    data,
    place,
  )
  plot.over.append(band, tip)
  tell(plot)
}

/** @param {any} u */
const drawMean = (u) => {
  if (mean === null) return
  const { ctx, bbox } = u
  const y = Math.round(u.valToPos(mean, "y", true)) + 0.5
  ctx.save()
  ctx.strokeStyle = style("--ink")
  ctx.globalAlpha = 0.6
  ctx.lineWidth = uPlot.pxRatio
  ctx.setLineDash([6 * uPlot.pxRatio, 5 * uPlot.pxRatio])
  ctx.beginPath()
  ctx.moveTo(bbox.left, y)
  ctx.lineTo(bbox.left + bbox.width, y)
  ctx.stroke()
  ctx.restore()
}

/** Says what is under the pointer, and marks it. @param {any} u */
const tell = (u) => {
  const { left } = u.cursor
  const [times, full, open] = data
  const i = left >= 0 && times.length > 0 ? Math.floor((u.posToVal(left, "x") - times[0]) / 60) : -1
  const time = times[i]
  tip.hidden = band.hidden = time === undefined
  if (time === undefined) return
  const isOpen = i === times.length - 1
  const clicks = (isOpen ? open[i] : full[i]) ?? 0
  write(
    tip,
    `${clock.format(time * 1000)}: ${whole.format(clicks)} ${clicks === 1 ? "click" : "clicks"}${
      isOpen ? " so far" : ""
    }`,
  )
  const from = u.valToPos(time, "x")
  const width = u.valToPos(time + 60, "x") - from
  band.style.left = `${from}px`
  band.style.width = `${width}px`
  const room = u.over.clientWidth - tip.offsetWidth
  tip.style.left = `${Math.max(0, Math.min(room, from + (width - tip.offsetWidth) / 2))}px`
}

/** @param {Columns} columns @param {number | null} average of the full minutes */
export const show = (columns, average) => {
  data = columns
  mean = average
  plot.setData(data)
  tell(plot)
}

draw()
let [width, height] = [place.clientWidth, place.clientHeight]
new ResizeObserver(() => {
  if (width === place.clientWidth && height === place.clientHeight) return
  ;[width, height] = [place.clientWidth, place.clientHeight]
  // Sizes of text follow the window's.
  draw()
}).observe(place)
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw)
