/** Lines of a file as the bytes they are. */
import { Buffer } from "node:buffer"
import { createReadStream } from "node:fs"

export interface Line {
  /** From 1. */
  readonly number: number
  /** Without the line's end. */
  readonly bytes: Buffer
  /** Where the next line begins in the file. */
  readonly end: number
}

/**
 * The lines of a file, one after the other, from memory that does not grow with the file. A line longer than `longest`
 * bytes comes cut there. Empty lines are left out, and counted.
 */
export async function* lines(file: string, longest: number): AsyncGenerator<Line> {
  let parts: Array<Buffer> = []
  let size = 0
  let number = 0
  let end = 0
  const take = (): Line | undefined => {
    const whole = Buffer.concat(parts, Math.min(size, longest))
    parts = []
    size = 0
    number++
    const bytes = whole.at(-1) === 13 ? whole.subarray(0, -1) : whole
    return bytes.length === 0 ? undefined : { number, bytes, end }
  }
  const add = (part: Buffer) => {
    if (size < longest) parts.push(part)
    size += part.length
    end += part.length
  }
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let from = 0
    for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, from)) {
      add(chunk.subarray(from, at))
      end++
      const line = take()
      if (line !== undefined) yield line
      from = at + 1
    }
    if (from < chunk.length) add(chunk.subarray(from))
  }
  if (size > 0) {
    const line = take()
    if (line !== undefined) yield line
  }
}
