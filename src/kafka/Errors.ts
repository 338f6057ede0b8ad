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

/** The group has moved on while work was at hand: it is kept until the next assignment tells whose it is. */
export const moved = (plan: Plan, cause: KafkaError | PipelineError): PipelineError =>
  new PipelineError({
    reason: "Fenced",
    retriable: true,
    message: `group ${plan.group} has moved on: ${cause.message}`,
    cause,
  })

/** A failed request as what it means for a pipeline. */
export const asPipelineError = (error: KafkaError | PipelineError): PipelineError => {
  if (error instanceof PipelineError) return error
  const fenced = error.code === "PRODUCER_FENCED"
  return new PipelineError({
    reason: fenced ? "Fenced" : "Kafka",
    retriable: !fenced && retriable.has(error.code),
    message: `${error.operation}: ${error.message}`,
    cause: error,
  })
}

/** The same where the request was about positions: a group that has moved on is told apart. */
export const ofCommit = (plan: Plan) => (error: KafkaError | PipelineError): PipelineError =>
  error instanceof KafkaError && stale.has(error.code) ? moved(plan, error) : asPipelineError(error)
