/** What a failed request means for a pipeline. */
import type { Plan } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import { KafkaError, retriable } from "./Cluster.ts"

/** Answers to a commit of positions after which they are somebody else's. */
export const stale: ReadonlySet<string> = new Set([
  "ILLEGAL_GENERATION",
  "UNKNOWN_MEMBER_ID",
  "REBALANCE_IN_PROGRESS",
  "FENCED_INSTANCE_ID",
])

/** Answers after which the producer that asked does not hold its transactional id any more: it must take it anew. */
export const fenced: ReadonlySet<string> = new Set([
  "PRODUCER_FENCED",
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
])

/** Answers about a producer, its sequences or its transaction, and not about its records: a new identity helps. */
export const ofProducer: ReadonlySet<string> = new Set([
  ...fenced,
  "OUT_OF_ORDER_SEQUENCE_NUMBER",
  "UNKNOWN_PRODUCER_ID",
  "INVALID_TXN_STATE",
  "TRANSACTION_ABORTABLE",
  "TRANSACTION_COORDINATOR_FENCED",
])

/** The group has moved on while work was at hand: it is kept until the next assignment tells whose it is. */
export const moved = (plan: Plan, cause: KafkaError | PipelineError): PipelineError =>
  new PipelineError({
    reason: "Fenced",
    retriable: true,
    message: `group ${plan.group} has moved on: ${cause.message}`,
    cause,
  })

/** Answers that say that a position is not one in the topic that there is. */
const elsewhere: ReadonlySet<string> = new Set(["OFFSET_OUT_OF_RANGE", "TOPIC_REPLACED"])

/** A failed request as what it means for a pipeline. */
export const asPipelineError = (error: KafkaError | PipelineError): PipelineError => {
  if (error instanceof PipelineError) return error
  const takenOver = error.code === "PRODUCER_FENCED"
  return new PipelineError({
    reason: takenOver ? "Fenced" : elsewhere.has(error.code) ? "State" : "Kafka",
    retriable: !takenOver && (retriable.has(error.code) || ofProducer.has(error.code)),
    message: `${error.operation}: ${error.message}`,
    cause: error,
  })
}

/** The same where the request was about positions: a group that has moved on is told apart. */
export const ofCommit = (plan: Plan) => (error: KafkaError | PipelineError): PipelineError =>
  error instanceof KafkaError && stale.has(error.code) ? moved(plan, error) : asPipelineError(error)
