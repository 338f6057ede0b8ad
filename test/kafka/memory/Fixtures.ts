/** Logs and records for the tests of the log in memory. */
import { Buffer } from "node:buffer"
import { Log } from "../../../src/kafka/memory/Log.ts"
import { parse, resolve, type Settings } from "../../../src/kafka/memory/TopicConfig.ts"

export const newLog = (settings: Settings = {}): Log => new Log("topic", 0, parse(resolve(settings)))

export const records = (values: ReadonlyArray<string | null>, timestamp = 0, key: string | null = null) => ({
  keys: values.map(() => key === null ? null : Buffer.from(key)),
  values: values.map((value) => value === null ? null : Buffer.from(value)),
  headers: values.map(() => []),
  timestamps: values.map(() => timestamp),
})
