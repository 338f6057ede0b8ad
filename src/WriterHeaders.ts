/** What a record of a repartition topic says of the task that wrote it. */
import { Buffer } from "node:buffer"
import type { Headers } from "./Batch.ts"
import { text } from "./Topic.ts"

/** Headers of records in a repartition topic: the task that wrote them, and its stream time when it did. */
export const taskHeader = "millrace-task"
const clockHeader = "millrace-clock"

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
