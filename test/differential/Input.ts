/** Random input: out of order and exactly on bounds, with everything that can be wrong with a record. */
import { Buffer } from "node:buffer"
import type { Rec, Tick } from "../support/FlowRunner.ts"
import type { Dice } from "../support/Seeds.ts"
import type { Came } from "./reference/Stream.ts"

export interface Shape {
  readonly isTable: boolean
  /** Whether event time is Kafka's timestamp. */
  readonly byKafka: boolean
  readonly ticks: boolean
  /** Whether there may be event times of another year. */
  readonly isWild: boolean
}

const step = 5_000
export const start = 6_000_000
const year = 365 * 86_400_000

/** Records of one partition, and ticks of the wall clock between them. */
export const draw = (dice: Dice, { isTable, byKafka, ticks, isWild }: Shape): ReadonlyArray<Came> => {
  let time = start
  let arrived = start
  return dice.list(1, 45, (i): ReadonlyArray<Came> => {
    const key = dice.int(0, 14) === 0 ? null : dice.pick(["ann", "ben", "cho"])
    time = Math.max(0, time + step * dice.pick([-8, -4, -2, -1, 0, 0, 1, 1, 2, 3, 6, 12]))
    const at = time + dice.pick([0, 0, 0, 1, -1, dice.int(-60_000, 60_000)]) +
      (isWild && dice.int(0, 30) === 0 ? year : 0)
    arrived += step * dice.pick([0, 0, 1, 1, 2, 6])
    const good = { id: `${dice.int(0, 29) === 0 ? "zed" : key}-${dice.int(0, 12)}`, n: dice.int(0, 9), at }
    const value = dice.int(0, 11) === 0
      ? dice.pick([
        "{",
        null,
        JSON.stringify({ ...good, n: 1.5 }),
        JSON.stringify({ ...good, at: -5 }),
        '{"id":"x","n":1}',
      ])
      : isTable && dice.int(0, 3) === 0
      ? null
      : JSON.stringify(good)
    const timestamp = byKafka ? (dice.int(0, 19) === 0 ? -1 : at) : arrived - step * dice.pick([0, 0, 0, 4])
    const record = { key, value, timestamp, ...value === null && isTable && dice.int(0, 1) === 0 && { changedAt: at } }
    const silence = ticks && i > 0 && dice.int(0, 9) === 0 ? dice.int(1, 24) * step : undefined
    return silence === undefined ? [record] : [tick(silence), record]
  }).flat().concat(ticks && dice.int(0, 1) === 0 ? [tick(dice.int(1, 24) * step)] : [])
}

const tick = (silence: number): Came => ({ key: null, value: null, timestamp: NaN, silence })

/** As fetches answer it. */
export const records = (came: ReadonlyArray<Came>): ReadonlyArray<Rec> =>
  came.filter(({ silence }) => silence === undefined).map(({ key, value, timestamp, changedAt }): Rec => ({
    key,
    value,
    timestamp,
    ...changedAt !== undefined && { headers: [["millrace-time", Buffer.from(String(changedAt))]] },
  }))

export const ticks = (came: ReadonlyArray<Came>): ReadonlyArray<Tick> => {
  let before = 0
  return came.flatMap(({ silence }) => {
    if (silence !== undefined) return [{ before, silence }]
    before++
    return []
  })
}
