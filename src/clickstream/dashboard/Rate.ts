/** How fast a count grows. */

const span = 10_000
const leastSpan = 3_000

/**
 * Takes readings of a count that only grows, and answers what it gained per second over the last ten seconds: the slope
 * of the line through them, for a database counts in steps of about a second. Null until there is enough to tell; a count
 * that fell was started anew.
 */
export const make = (): (at: number, count: number) => number | null => {
  let readings: Array<readonly [at: number, count: number]> = []
  return (at, count) => {
    if (count < (readings.at(-1)?.[1] ?? 0)) readings = []
    readings = [...readings.filter((reading) => reading[0] >= at - span), [at, count]]
    if (at - readings[0]![0] < leastSpan) return null
    return Math.max(0, slope(readings) * 1_000)
  }
}

const slope = (points: ReadonlyArray<readonly [x: number, y: number]>): number => {
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  let [both, square] = [0, 0]
  for (const point of points) {
    both += (point[0] - x) * (point[1] - y)
    square += (point[0] - x) ** 2
  }
  return both / square
}
