/** Tables in a terminal. */

/** Names that others have chosen can hold what a terminal obeys. */
const harmless = (cell: string | number): string | number =>
  typeof cell === "number" ? cell : cell.replace(/\p{Cc}|\p{Cf}/gu, "\ufffd")

/** Rows as lines, with columns as wide as they must be; numbers stand to the right. */
export const columns = (head: ReadonlyArray<string>, given: ReadonlyArray<ReadonlyArray<string | number>>): string => {
  const rows = given.map((row) => row.map(harmless))
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map((row) => String(row[i]).length)))
  const isNumber = head.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"))
  return [head, ...rows].map((row) =>
    row.map((cell, i) => isNumber[i] ? String(cell).padStart(widths[i]!) : String(cell).padEnd(widths[i]!))
      .join("  ").trimEnd()
  ).join("\n")
}

/** A moment as text, to the second. */
export const moment = (millis: number): string => `${new Date(millis).toISOString().slice(0, 19)}Z`
