/** Importing an access log. */
import { closeSync, openSync, readSync, statSync } from "node:fs"
import { basename } from "node:path"
import { Buffer } from "node:buffer"
import { createHash } from "node:crypto"
import { Clock, Effect, Redacted, Result, Schema, Stream } from "effect"
import { type Naming, topics } from "../../schemas/index.ts"
import { type Kafka, Producer, StreamTimes, type Task } from "../index.ts"
import * as AccessLog from "./AccessLog.ts"
import { type Line, lines } from "./Lines.ts"
import { type Options, recordOf } from "./LogRecords.ts"
import { pipelines } from "./Names.ts"

/** A log that cannot or must not be imported. */
export class ImportError extends Schema.TaggedError<ImportError>()("ImportError", { message: Schema.String }) {}

export interface ImportOptions extends Pick<Options, "program"> {
  readonly file: string
  /**
   * Without it, one is made of the log's first line: the same for every import of the log, also when it has grown. Who has
   * that line can find out which address an id was made of.
   */
  readonly hashKey: Redacted.Redacted<string> | undefined
  readonly naming: Naming
  /** Lines per second; without it, as fast as the brokers take them. */
  readonly rate: number | undefined
  /** Told after every chunk of lines that the brokers have acknowledged. */
  progress(imported: Imported): void
}

/** How far an import is. */
export interface Imported {
  readonly lines: number
  /** Lines that are not in the format: they are dead letters now. */
  readonly malformed: number
  readonly bytes: number
  /** Lines per second since the start. */
  readonly rate: number
}

const chunk = 500

/**
 * Sends every line of a log in its order, with its original time, and ends when all are acknowledged. Event ids are made
 * of line number and text: importing a log again changes nothing but for another dead letter per malformed line.
 *
 * Refuses a log that ends before the topics' stream time, for its clicks would be late: such a log needs topics of its own.
 */
export const run = Effect.fn("Import.run")(function* (
  { file, naming, hashKey, program, rate, progress }: ImportOptions,
): Effect.fn.Return<
  Imported,
  ImportError | Task.PipelineError | Producer.ProducerError,
  Producer.Producer | Kafka.Cluster
> {
  const { send } = yield* Producer.Producer
  yield* notTooOld(file, naming)
  const options = { to: topics(naming), file: basename(file), hashKey: hashKey ?? keyOf(file), program }
  const started = yield* Clock.currentTimeMillis
  let done: Imported = { lines: 0, malformed: 0, bytes: 0, rate: 0 }
  let begun = 0
  const take = Effect.fnUntraced(function* (some: ReadonlyArray<Line>) {
    begun += some.length
    const now = yield* Clock.currentTimeMillis
    const wait = rate === undefined ? 0 : started + begun / rate * 1000 - now
    if (wait > 0) yield* Effect.sleep(wait)
    const at = yield* Clock.currentTimeMillis
    return some.map((line) => recordOf(options, line, at))
  })
  yield* Stream.fromAsyncIterable(lines(file, AccessLog.longestLine * 2), () => unreadable(file)).pipe(
    Stream.grouped(rate === undefined ? chunk : Math.max(1, Math.min(chunk, Math.ceil(rate / 10)))),
    Stream.mapEffect((some) => Effect.map(take(some), (records) => ({ some, records }))),
    Stream.mapEffect(({ some, records }) => Effect.as(send(records), { some, records }), { concurrency: 4 }),
    Stream.runForEach(({ some, records }) =>
      Effect.clockWith((clock) => {
        const seconds = Math.max(1, clock.currentTimeMillisUnsafe() - started) / 1000
        const lines = done.lines + some.length
        done = {
          lines,
          malformed: done.malformed + records.filter(({ topic }) => topic === options.to.dlt.name).length,
          bytes: some.at(-1)!.end,
          rate: lines / seconds,
        }
        progress(done)
        return Effect.void
      })
    ),
  )
  return done
})

const notTooOld = Effect.fnUntraced(function* (file: string, naming: Naming) {
  const newest = yield* Effect.try({ try: () => lastTime(file), catch: () => unreadable(file) })
  if (newest === undefined) return
  const names = pipelines(naming)
  const times = yield* Effect.all([
    StreamTimes.written(topics(naming).raw),
    StreamTimes.latest(names.enrich, "sessions"),
    StreamTimes.latest(names.count, "minutes"),
  ])
  const streamTime = Math.max(...times.map((time) => time ?? -Infinity))
  if (streamTime <= newest) return
  return yield* new ImportError({
    message: `${file} ends at ${new Date(newest).toISOString()}, and the topics have clicks up to ` +
      `${new Date(streamTime).toISOString()}: its clicks would be too late to be counted. ` +
      "Import it into topics and tables of its own, with --prefix NAME",
  })
})

const unreadable = (file: string): ImportError => new ImportError({ message: `${file} cannot be read` })

const megabyte = 1024 * 1024

const keyOf = (file: string): Redacted.Redacted<string> => {
  const beginning = part(file, 0)
  const first = beginning.toString("latin1").search(/[^\r\n]/)
  const end = beginning.indexOf(10, first)
  const line = beginning.subarray(first, end === -1 ? undefined : end)
  return Redacted.make(createHash("sha256").update(line).digest("base64url"))
}

/** Up to a megabyte of the file. */
const part = (file: string, from: number): Buffer => {
  const descriptor = openSync(file, "r")
  try {
    const buffer = Buffer.alloc(megabyte)
    return buffer.subarray(0, readSync(descriptor, buffer, 0, megabyte, from))
  } finally {
    closeSync(descriptor)
  }
}

/** The latest time in the last lines of a log. */
const lastTime = (file: string): number | undefined => {
  const end = part(file, Math.max(0, statSync(file).size - megabyte))
  const times = end.toString("utf8").split("\n").flatMap((line) => {
    const parsed = AccessLog.parse(line)
    return Result.isSuccess(parsed) ? parsed.success.time : []
  })
  return times.length === 0 ? undefined : Math.max(...times)
}
