/** How far a replay is, in the terminal. */
import { SingleBar } from "cli-progress"
import { Duration } from "effect"
import type { Replay } from "../index.ts"

/** A bar that appears with the first figures. It is written to stderr. */
export const progressBar = () => {
  const bar = new SingleBar({
    format: "{bar} {percentage} % | {value} of {total} records | {rate} records/s | {left} left",
    barsize: 30,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5_000,
  })
  return {
    update: ({ done, total, perSecond, left }: Replay.Progress) => {
      if (total === 0) return
      if (!bar.isActive) bar.start(total, 0, { rate: 0, left: "?" })
      const seconds = left === undefined ? undefined : Duration.seconds(Math.ceil(left / 1000))
      bar.update(done, { rate: Math.round(perSecond), left: seconds === undefined ? "?" : Duration.format(seconds) })
    },
    stop: () => bar.stop(),
  }
}
