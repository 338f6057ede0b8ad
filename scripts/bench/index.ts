/** `npm run bench [-- NAME ...]`: clicks (the default), stages, collector, nexmark, overload or record-batch, each described in its own file. */
const files: Readonly<Record<string, string>> = {
  clicks: "./clicks.ts",
  stages: "./stages.ts",
  collector: "./collector.ts",
  nexmark: "./nexmark.ts",
  overload: "./overload.ts",
  "record-batch": "./record-batch.ts",
}
const name = process.argv[2]
const file = files[name === undefined || name.startsWith("--") ? "clicks" : name]
if (file === undefined) {
  console.error(`benchmarks: ${Object.keys(files).join(", ")}`)
  process.exit(2)
}
if (name !== undefined && !name.startsWith("--")) process.argv.splice(2, 1)
await import(file)
