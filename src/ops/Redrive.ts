/**
 * Dead letters: what there is, and sending it again. A letter's record goes to a retry topic of the stage that gave it up,
 * where that has any, else to the topic that it came from, and to the same partition: with its key, headers and time.
 */
import { Clock, Effect, Result } from "effect"
import { Cluster, KafkaError } from "../kafka/Cluster.ts"
import { patiently } from "../kafka/Retry.ts"
import { PipelineError } from "../Task.ts"
import { type Group, Histogram } from "./letters/Histogram.ts"
import { Ledger } from "./letters/Ledger.ts"
import type { Letter } from "./letters/Letter.ts"
import { each, open, RedriveError } from "./letters/Opened.ts"
import { patience } from "./letters/Reading.ts"
import { type Report, Tally } from "./letters/Report.ts"
import * as Returning from "./letters/Returning.ts"
import { isSelected, type Selection } from "./letters/Selection.ts"
import { type Chosen, make as makeSending } from "./letters/Sending.ts"
import * as Targets from "./letters/Targets.ts"

export { type Group } from "./letters/Histogram.ts"
export { type Letter } from "./letters/Letter.ts"
export { masked, unmasked } from "./letters/Masked.ts"
export { RedriveError } from "./letters/Opened.ts"
export { type Report } from "./letters/Report.ts"
export { type Refusal } from "./letters/Returning.ts"
export { type Selection } from "./letters/Selection.ts"

export interface Options {
  /** At most so many are sent; all that are selected unless given. */
  readonly max?: number
  /** A record that was redriven so often and came back is quarantined: it stays where it is. 5 unless given. */
  readonly maxAttempts?: number
  /** At most so many a second; as fast as they go unless given. */
  readonly rate?: number
  /** Told after every transaction: letters looked at, of all there are, and sent. */
  readonly progress?: (read: number, total: number, sent: number) => void
}

/** So many letters, or bytes, are sent in one transaction. */
const most = 200
const mostBytes = 1_000_000

/** Topics whose names say that they hold dead letters: `.dlt`, or as Spring Kafka names them `-dlt`. */
export const topics: Effect.Effect<ReadonlyArray<string>, RedriveError, Cluster> = Effect.gen(function* () {
  const { topics } = yield* patiently(Cluster.use((cluster) => cluster.metadata()), patience)
  return topics.map(({ topic }) => topic).filter((topic) => /[.-]dlt$/i.test(topic)).sort()
}).pipe(Effect.mapError((error) => wrapped("", error)))

/** Dead letters of a topic by reason, stage, program and origin, most of them first. */
export const list = Effect.fn("Redrive.list")(
  function* (
    topic: string,
  ): Effect.fn.Return<ReadonlyArray<Group>, KafkaError | PipelineError | RedriveError, Cluster> {
    const opened = yield* open(topic)
    const ledger = new Ledger(topic)
    yield* ledger.update("decided")
    const histogram = new Histogram()
    yield* each(
      opened,
      (letter) => Effect.sync(() => histogram.add(letter, ledger.get({ ...letter, topicId: opened.topicId }))),
    )
    return histogram.groups
  },
  (listing, topic) => Effect.mapError(listing, (error) => wrapped(topic, error)),
)

/** One dead letter. Fails with reason `Unknown` where there is none at this place. */
export const show = Effect.fn("Redrive.show")(
  function* (
    topic: string,
    partition: number,
    offset: number,
  ): Effect.fn.Return<Letter, KafkaError | RedriveError, Cluster> {
    const opened = yield* open(topic)
    const ends = opened.ends.map((end, i) => i === partition ? Math.min(end, offset + 1) : 0)
    const starts = opened.starts.map((start, i) => i === partition ? Math.max(start, offset) : 0)
    let found: Letter | undefined
    yield* each({ ...opened, starts, ends }, (letter) => Effect.sync(() => void (found = letter)))
    if (found?.offset === offset) return found
    return yield* new RedriveError({
      reason: "Unknown",
      message: `topic ${topic} has no record at partition ${partition} offset ${offset}`,
    })
  },
  (showing, topic) => Effect.mapError(showing, (error) => wrapped(topic, error)),
)

/** What `send` would do now. Nothing is written. */
export const plan = (topic: string, selection: Selection, options: Options = {}): Sent =>
  run(topic, selection, options, true)

type Sent = Effect.Effect<Report, RedriveError, Cluster>

/**
 * Sends the selected letters again, those of each partition in their order. Every one is sent once, over crashes, repeated
 * calls and calls at the same time: the record and the mark that it was sent, in the topic `<topic>.redriven`, are one
 * transaction, whose id is the topic's. Who begins last goes on; the other one fails with `Fenced`.
 *
 * Readers that do not read committed records only can see some twice. What a letter's record had caused before it failed is
 * not taken back: a stage above the one that failed counts it again, except where records are deduplicated by id.
 */
export const send = (topic: string, selection: Selection, options: Options = {}): Sent =>
  run(topic, selection, options, false)

const run = (topic: string, selection: Selection, options: Options, isDry: boolean): Sent =>
  Effect.suspend(() => {
    const { max = Infinity, maxAttempts = 5, rate, progress } = options
    const tally = new Tally()
    return Effect.scoped(Effect.gen(function* () {
      const opened = yield* open(topic)
      const ledger = new Ledger(topic)
      const started = yield* Clock.currentTimeMillis
      const sending = isDry ? undefined : yield* makeSending(opened, ledger, tally)
      if (isDry) yield* ledger.update("decided")
      const targets = Targets.make()
      const chunk = rate === undefined ? most : Math.min(most, Math.max(1, Math.floor(rate)))
      let chosen: Array<Chosen> = []
      let bytes = 0

      const paced = Effect.gen(function* () {
        if (rate === undefined || isDry) return
        const left = started + tally.sentInAll / rate * 1_000 - (yield* Clock.currentTimeMillis)
        if (left > 0) yield* Effect.sleep(left)
      })
      const flush = Effect.gen(function* () {
        if (sending !== undefined) yield* sending(chosen)
        else {
          for (const { returning } of chosen) {
            if (returning === undefined) tally.quarantinedNow++
            else tally.addSent(returning.topic, returning.isRestamped)
          }
        }
        chosen = []
        bytes = 0
        progress?.(tally.read, opened.total, tally.sentInAll)
        yield* paced
      })
      const choose = Effect.fnUntraced(function* (letter: Letter) {
        const known = ledger.get({ ...letter, topicId: opened.topicId })
        if (known === "sent") return void tally.before++
        const at = yield* Clock.currentTimeMillis
        const { partition, offset, attempts } = letter
        const mark = { topicId: opened.topicId, partition, offset, attempts, at }
        if (attempts >= maxAttempts) {
          tally.quarantined++
          if (known === undefined) chosen.push({ mark: { ...mark, outcome: "quarantined" }, returning: undefined })
          return
        }
        const target = Returning.topicOf(letter)
        const returning = Returning.make(letter, target === undefined ? undefined : yield* targets.of(target), at)
        if (Result.isFailure(returning)) return tally.addRefused(returning.failure)
        if (tally.sentInAll + chosen.filter(({ returning }) => returning !== undefined).length >= max) {
          // It is none of those that this redrive has done something with.
          tally.isCutOff = true
          tally.selected--
          tally.read--
          return
        }
        chosen.push({ mark: { ...mark, attempts: attempts + 1, outcome: "sent" }, returning: returning.success })
        bytes += sizeOf(letter)
      })
      yield* each(
        opened,
        Effect.fnUntraced(function* (letter) {
          tally.read++
          if (!isSelected(selection, letter)) return true
          tally.selected++
          yield* choose(letter)
          if (chosen.length >= chunk || bytes >= mostBytes) yield* flush
          else if (tally.read % 1_000 === 0) progress?.(tally.read, opened.total, tally.sentInAll)
          return !tally.isCutOff
        }),
      )
      yield* flush
      return tally
    })).pipe(
      Effect.mapError((error) => wrapped(topic, error, tally.sentInAll)),
    )
  })

const sizeOf = ({ key, value, own, about }: Letter): number => {
  let size = (key?.length ?? 0) + (value?.length ?? 0)
  for (const [, bytes] of own) size += bytes.length + 64
  for (const bytes of about.values()) size += bytes.length + 64
  return size
}

const wrapped = (topic: string, error: KafkaError | PipelineError | RedriveError, sent?: number): RedriveError => {
  if (error instanceof RedriveError) return error
  const so = sent === undefined ? "" : ` (${sent} were sent, and are not sent again)`
  return error instanceof KafkaError && error.code === "PRODUCER_FENCED"
    ? new RedriveError({
      reason: "Fenced",
      message: `another redrive of ${topic} has begun, and goes on${so}`,
      cause: error,
    })
    : new RedriveError({ reason: "Kafka", message: `${error.message}${so}`, cause: error })
}
