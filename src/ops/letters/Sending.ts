/** Sends dead letters again, each in one transaction with the mark that says so: once, whoever else does the same. */
import { Effect, Exit, type Scope } from "effect"
import { Cluster, type KafkaError, retriable } from "../../kafka/Cluster.ts"
import { ofProducer } from "../../kafka/Errors.ts"
import * as Leaders from "../../kafka/Leaders.ts"
import * as Transaction from "../../kafka/Transaction.ts"
import * as Writer from "../../kafka/Writer.ts"
import type { PipelineError } from "../../Task.ts"
import type { Ledger, Mark } from "./Ledger.ts"
import type { Opened } from "./Opened.ts"
import { patience } from "./Reading.ts"
import type { Tally } from "./Report.ts"
import type { Returning } from "./Returning.ts"

/** A letter that is to be marked, and where it is to be sent its record. */
export interface Chosen {
  readonly mark: Mark
  readonly returning: Returning | undefined
}

/** Answers about a record, and not about a producer or a topic. */
const ofRecord: ReadonlySet<string> = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_TIMESTAMP",
  "INVALID_RECORD",
])

/** Whether another identity helps. */
const mayTryAgain = ({ code }: KafkaError): boolean =>
  code !== "PRODUCER_FENCED" && (retriable.has(code) || ofProducer.has(code))

/** How many transactions in a row may end without it being known how. */
const mostUnknown = 5

/** Marks of letters that are gone, deleted per transaction. */
const mostStale = 1_000

/**
 * Takes the transactional id of the topic's redrives, so that whoever had it before can commit nothing more, and reads all
 * marks that were committed until then. Answers a function that sends in the order given. Fails with PRODUCER_FENCED
 * when another redrive has taken the id.
 *
 * Whenever the id was taken anew, marks are read anew before anything is sent: what was committed in between counts.
 */
export const make = Effect.fnUntraced(function* (
  { topic, topicId, starts }: Opened,
  ledger: Ledger,
  tally: Tally,
): Effect.fn.Return<
  (chosen: ReadonlyArray<Chosen>) => Effect.Effect<void, KafkaError | PipelineError, Cluster>,
  KafkaError | PipelineError,
  Cluster | Scope.Scope
> {
  const cluster = yield* Cluster
  yield* ledger.create
  const transactionalId = `redrive-${topic}`
  const writer = yield* Writer.make(cluster, yield* Leaders.make, {
    transactionalId,
    // What a process that was killed has left open holds readers back for no longer.
    transactionTimeout: 20_000,
    deliveryTimeout: patience,
    requestTimeout: patience,
    compression: "none",
    maxBatchBytes: 1_000_000,
  })
  // What is left open holds readers of all these topics back until it times out.
  yield* Effect.addFinalizer((exit) => {
    const aborted = Effect.suspend(() => cluster.endTxn({ transactionalId, ...writer.identity() }, false))
    return Exit.isSuccess(exit) ? Effect.void : Effect.ignore(Effect.timeout(aborted, "5 seconds"))
  })
  let readAs: ReturnType<Writer.Writer["identity"]> | undefined
  const ready = Effect.gen(function* () {
    yield* writer.ready
    const identity = writer.identity()
    if (readAs === identity) return
    yield* ledger.update("all")
    readAs = identity
  })
  yield* ready

  const isDone = ({ mark }: Chosen): boolean => {
    const known = ledger.get(mark)
    return known !== undefined && (known === "sent" || mark.outcome === "quarantined")
  }

  const committed = (chosen: ReadonlyArray<Chosen>): void => {
    for (const { mark, returning } of chosen) {
      ledger.note(mark, mark.outcome)
      if (returning === undefined) tally.quarantinedNow++
      else tally.addSent(returning.topic, returning.isRestamped)
    }
  }

  const send = (
    chosen: ReadonlyArray<Chosen>,
    unknown = 0,
  ): Effect.Effect<void, KafkaError | PipelineError, Cluster> =>
    Effect.gen(function* () {
      yield* ready
      const left = chosen.filter((one) => !isDone(one))
      tally.before += chosen.filter((one) => one.returning !== undefined && isDone(one)).length
      if (left.length === 0) return
      const tidied = ledger.stale(topicId, starts, mostStale)
      const records = [
        ...left.flatMap(({ mark, returning }) =>
          returning === undefined ? [ledger.mark(mark)] : [returning, ledger.mark(mark)]
        ),
        ...tidied.map((where) => ledger.unmark(where)),
      ]
      const ran = yield* Effect.result(
        Transaction.run(cluster, transactionalId, writer, { records, offsets: [] }, patience),
      )
      if (ran._tag === "Failure") {
        if (!mayTryAgain(ran.failure) || unknown >= mostUnknown) return yield* ran.failure
        return yield* sendAgain(left, unknown + 1)
      }
      const outcome = ran.success
      switch (outcome._tag) {
        case "committed":
          for (const where of tidied) ledger.note(where, undefined)
          return committed(left)
        case "undelivered": {
          const worst = outcome.batches.find(({ error, unknown }) => unknown || !ofRecord.has(error.code))
          if (worst !== undefined) return yield* worst.error
          if (left.length === 1) return tally.addRefused("Refused")
          const middle = left.length >> 1
          return yield* Effect.andThen(send(left.slice(0, middle)), send(left.slice(middle)))
        }
        case "unknown":
        case "stale":
          if (unknown >= mostUnknown) return yield* outcome.error
          return yield* sendAgain(left, unknown + 1)
      }
    })

  /** What was committed after all is found marked; it was counted as sent by nobody yet. */
  const sendAgain = (chosen: ReadonlyArray<Chosen>, unknown: number) =>
    Effect.gen(function* () {
      yield* ready
      committed(chosen.filter(isDone))
      yield* send(chosen.filter((one) => !isDone(one)), unknown)
    })

  return (chosen) => send(chosen)
})
