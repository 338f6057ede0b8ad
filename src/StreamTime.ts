/** Stream time: the highest event time seen, per task that wrote the input. */
import { Buffer } from "node:buffer"
import type { Headers } from "./Batch.ts"
import { text } from "./Topic.ts"

/** Headers of records in a repartition topic: the task that wrote them, and its stream time when it did. */
export const taskHeader = "millrace-task"
export const clockHeader = "millrace-clock"

/** How long a task that writes a repartition topic may be silent before it stops holding the clock back. */
const idleAfter = 60_000

/**
 * The stream time of one input. With one writer it is the highest event time so far; with several, the lowest among
 * their own clocks, leaving out those that have written nothing for a minute of arrival time. It never goes back, and it
 * depends on the log alone: not on where batches are cut, nor on when they are read. What must survive a restart is kept
 * by the stages that act on it (`Store.streamTime`).
 */
export class StreamTime {
  #tasks = new Map<string, { time: number; arrival: number }>()
  #firstArrival = Infinity
  now = -Infinity

  /** Stream time after a record that `writer` (of `writers`) wrote at its own stream time `time`. */
  advance(writer: string, time: number, arrival: number, writers: number): number {
    if (writers === 1) {
      if (time > this.now) this.now = time
      return this.now
    }
    this.#firstArrival = Math.min(this.#firstArrival, arrival)
    const known = this.#tasks.get(writer)
    if (known === undefined) this.#tasks.set(writer, { time, arrival })
    else {
      known.time = Math.max(known.time, time)
      known.arrival = Math.max(known.arrival, arrival)
    }
    let lowest = Infinity
    for (const task of this.#tasks.values()) {
      if (task.arrival > arrival - idleAfter && task.time < lowest) lowest = task.time
    }
    const waitsForUnseen = this.#tasks.size < writers && this.#firstArrival > arrival - idleAfter
    if (!waitsForUnseen && lowest > this.now) this.now = lowest
    return this.now
  }
}

export const writerHeaders = (task: string, now: number): Headers => [
  [taskHeader, Buffer.from(task)],
  [clockHeader, Buffer.from(String(now))],
]

/** Which task wrote a record of a repartition topic, and its stream time then; `time` where the headers are missing. */
export const writtenBy = (headers: Headers, time: number): readonly [writer: string, time: number] => {
  let writer = "?"
  let clock = time
  for (const [name, value] of headers) {
    if (name === taskHeader) writer = text(value)
    else if (name === clockHeader) clock = Number(text(value))
  }
  return [writer, Number.isNaN(clock) ? time : clock]
}
