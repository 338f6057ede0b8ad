/** Measurements each have a process of their own: none pays for what another has left behind or has taught the compiler. */
import { execFileSync } from "node:child_process"
import { join } from "node:path"

/** What a file of this folder prints as JSON when it is run with an order. */
export const ask = <A>(file: "measure" | "state" | "restore", order: unknown): A => {
  const args = ["--expose-gc", "--max-old-space-size=6000", join(import.meta.dirname, `${file}.ts`)]
  const answer = execFileSync(process.execPath, [...args, JSON.stringify(order)], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  })
  return JSON.parse(answer.trim().split("\n").at(-1)!) as A
}
