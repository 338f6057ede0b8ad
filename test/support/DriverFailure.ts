/** What the test driver fails with. */
import { assert } from "@effect/vitest"
import { Driver } from "../../src/testing/index.ts"

/** Checks a failure: words of its message, and its other parts. */
export const failure = (words: string, parts: Partial<Driver.DriverError> = {}) => (error: unknown): void => {
  assert.instanceOf(error, Driver.DriverError)
  assert.include(error.message, words)
  for (const [name, value] of Object.entries(parts)) assert.strictEqual(error[name as "message"], value)
}
