/**
 * Counts an access log in the combined format without any of the library: requests per visitor, per page, and per visitor
 * and minute, as JSON. `node scripts/count-log.ts FILE HASH_KEY`
 */
import { createHmac } from "node:crypto"
import { readFileSync } from "node:fs"
import { pathToFileURL } from "node:url"

const combined =
  /^(\S+) \S+ .+? \[(\d+)\/(\w+)\/(\d+):(\d+):(\d+):\d+ \+0000\] "[A-Z]+ ([^\s?#]+)[^"]*" \d{3} (?:\d+|-) ".*" "[^"]*"$/

export interface Counts {
  readonly lines: number
  readonly malformed: ReadonlyArray<number>
  readonly visitors: Readonly<Record<string, number>>
  readonly pages: Readonly<Record<string, number>>
  /** By visitor and minute, as in 3Xs9...@2015-05-17T10:05:00.000Z. */
  readonly minutes: Readonly<Record<string, number>>
}

export const count = (text: string, hashKey: string): Counts => {
  const malformed: Array<number> = []
  const visitors: Record<string, number> = {}
  const pages: Record<string, number> = {}
  const minutes: Record<string, number> = {}
  const add = (to: Record<string, number>, name: string) => to[name] = (to[name] ?? 0) + 1
  const lines = text.split("\n").filter((line) => line !== "")
  for (const [i, line] of lines.entries()) {
    const match = combined.exec(line)
    if (match === null) {
      malformed.push(i + 1)
      continue
    }
    const [, client, day, month, year, hour, minute, path] = match as unknown as ReadonlyArray<string>
    const visitor = createHmac("sha256", hashKey).update(client!).digest("base64url").slice(0, 22)
    const at = new Date(`${day} ${month} ${year} ${hour}:${minute}:00 UTC`).toISOString()
    add(visitors, visitor)
    add(pages, path!)
    add(minutes, `${visitor}@${at}`)
  }
  return { lines: lines.length, malformed, visitors, pages, minutes }
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [file, hashKey] = process.argv.slice(2)
  if (file === undefined || hashKey === undefined) {
    console.error("usage: node scripts/count-log.ts FILE HASH_KEY")
    process.exit(2)
  }
  console.log(JSON.stringify(count(readFileSync(file, "utf8"), hashKey), undefined, 2))
}
