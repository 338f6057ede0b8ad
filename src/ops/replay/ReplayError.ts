/** Why a replay is refused, or cannot go on. */
import { Schema } from "effect"
import { GroupActive } from "../../kafka/Exclusive.ts"
import { KafkaError } from "../../kafka/Cluster.ts"
import { asPipelineError } from "../../kafka/Errors.ts"
import { PipelineError } from "../../Task.ts"

/** A replay that was refused: nothing was changed by it. The message says what to do. */
export class ReplayRefused extends Schema.TaggedError<ReplayRefused>()("ReplayRefused", {
  reason: Schema.Literals([
    "Active", // programs are at work in the group
    "Stateful", // the pipeline keeps state, and nothing was said about it
    "PartialState", // the state would begin in the middle of the input
    "Effects", // a stage has effects that are not declared safe to be run again
    "Sink", // rows would be written twice, or to where they must not be
    "Retention", // records from where the replay is to begin are gone
    "Pending", // records wait in topics of the pipeline's own
    "Positions", // what was asked for makes no sense for these topics
    "Moved", // the group has moved on since
    "Behind", // the shadow does not stand where the live group stands
  ]),
  message: Schema.String,
}) {
  /** What a program that ends with it answers. */
  readonly exitCode = 3
}

/** What a file that a replay is recorded in does not say, or that it cannot be written. */
export class JournalError extends Schema.TaggedError<JournalError>()("JournalError", { message: Schema.String }) {}

export const refuse = (reason: ReplayRefused["reason"], message: string): ReplayRefused =>
  new ReplayRefused({ reason, message })

export type ReplayFailure = ReplayRefused | JournalError | PipelineError

/** Whatever a step of a replay fails with, as what its caller is told. */
export const asFailure = <E extends ReplayFailure | KafkaError | GroupActive>(error: E): ReplayFailure => {
  if (error instanceof GroupActive) return refuse("Active", error.message)
  return error instanceof KafkaError ? asPipelineError(error) : error
}
