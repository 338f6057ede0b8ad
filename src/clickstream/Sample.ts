/** The sample traffic that comes with Millrace: see data/README.md for where it is from. */
import { fileURLToPath } from "node:url"
import { Effect, Redacted } from "effect"
import type { Topics } from "../../schemas/index.ts"
import { Failures } from "../index.ts"
import * as AccessLog from "./AccessLog.ts"
import * as Feed from "./Feed.ts"
import { lines } from "./Lines.ts"

const file = "apache_access_combined_10k.log"

/** Visitors of the sample are the same in every run. */
export const hashKey = Redacted.make("sample")

/** Feeds 10,000 requests in 30 seconds, over and over. */
export const feed = Effect.fn("Sample.feed")(function* (to: Topics) {
  const path = fileURLToPath(new URL(`../../data/${file}`, import.meta.url))
  const all = yield* Effect.promise(() => Array.fromAsync(lines(path, AccessLog.longestLine)))
  return yield* Feed.run({ to, file, lines: all, loop: "30 seconds", hashKey, program: yield* Failures.Program })
})
