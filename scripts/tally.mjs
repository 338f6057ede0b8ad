/** Prints how many tests passed and failed, the check of types, format and lint counted as one. */
import { readFileSync } from "node:fs"

const [file, status] = process.argv.slice(2)
const text = readFileSync(file, "utf8")
// Without results the check before the tests has failed.
const { numPassedTests, numFailedTests, numFailedTestSuites } = text === ""
  ? { numPassedTests: -1, numFailedTests: 1, numFailedTestSuites: 0 }
  : JSON.parse(text)
const failed = Math.max(numFailedTests, numFailedTestSuites > 0 || status !== "0" ? 1 : 0)
console.log(`${numPassedTests + 1} passed, ${failed} failed`)
