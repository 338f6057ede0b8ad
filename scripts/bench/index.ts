/** `npm run bench [-- NAME ...]`: clicks unless named, each described in its own file; guarantees is a part of clicks. */
const files: Readonly<Record<string, string>> = {
  clicks: "./clicks.ts",
  stages: "./stages.ts",
  collector: "./collector.ts",
  nexmark: "./nexmark.ts",
  overload: "./overload.ts",
  "record-batch": "./record-batch.ts",
  guarantees: "./clicks.ts",
  rebalance: "./rebalance.ts",
  restart: "./restart.ts",
}
const name = process.argv[2]
const file = files[name === undefined || name.startsWith("--") ? "clicks" : name]
if (file === undefined) {
  console.error(`benchmarks: ${Object.keys(files).join(", ")}`)
  process.exit(2)
}
if (name !== undefined && !name.startsWith("--")) process.argv.splice(2, 1)
if (name === "guarantees") process.argv.push("--only", "millrace,atLeast")
await import(file)
