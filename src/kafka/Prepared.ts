/** Work as the records that it becomes, and whose fault it is when the brokers refuse some. */
import { Effect, Result } from "effect"
import type { Headers } from "../Batch.ts"
import { changelogTopic, type Plan, type Refused, type Work } from "../Pipeline.ts"
import { PipelineError } from "../Task.ts"
import { taskKey } from "./Assignment.ts"
import * as Changelog from "./Changelog.ts"
import type { KafkaError } from "./Cluster.ts"
import type { ProducerRecord, Undelivered } from "./Delivery.ts"
import { asPipelineError, ofProducer } from "./Errors.ts"

export interface Prepared {
  readonly work: Work
  readonly outputs: ReadonlyArray<ProducerRecord>
  readonly changes: ReadonlyArray<ProducerRecord>
}

/** Work whose state cannot be logged is refused. `headers` stand in every record of a changelog. */
export const prepare = (
  plan: Plan,
  work: ReadonlyArray<Work>,
  headers?: Headers,
): { readonly prepared: ReadonlyArray<Prepared>; readonly refused: ReadonlyArray<Refused> } => {
  const prepared: Array<Prepared> = []
  const refused: Array<Refused> = []
  for (const one of work) {
    const changes = Changelog.records(plan, one, headers)
    if (Result.isFailure(changes)) refused.push({ task: one.task, error: changes.failure })
    else {
      prepared.push({
        work: one,
        outputs: one.batches.flatMap((batch) => batch.outgoing),
        changes: changes.success,
      })
    }
  }
  return { prepared, refused }
}

/**
 * The tasks whose records the brokers refuse for good: at least one. Fails where a batch was not written for any other
 * reason: a timeout, or a producer that lost its place, says nothing about the records.
 */
export const culprits = (
  plan: Plan,
  prepared: ReadonlyArray<Prepared>,
  failed: ReadonlyArray<Undelivered>,
): Effect.Effect<ReadonlyArray<Refused>, KafkaError> => {
  const innocent = failed.find(({ error }) => error.code === "TIMEOUT" || ofProducer.has(error.code))
  if (innocent !== undefined) return Effect.fail(innocent.error)
  const blamed = new Map(failed.flatMap(({ batch, error }) => batch.from.map((record) => [record, error] as const)))
  const found = prepared.flatMap(({ work, outputs, changes }): ReadonlyArray<Refused> => {
    const { task } = work
    const output = outputs.find((one) => blamed.has(one))
    if (output !== undefined) return [{ task, error: refusal(output, blamed.get(output)!) }]
    const change = changes.find((one) => blamed.has(one))
    return change === undefined ? [] : [{ task, error: refusalOfState(plan, work, change, blamed.get(change)!) }]
  })
  return found.length > 0 ? Effect.succeed(found) : Effect.fail(failed[0]!.error)
}

const refusal = ({ topic, ...record }: ProducerRecord, error: KafkaError): PipelineError =>
  error.code !== "MESSAGE_TOO_LARGE" ? asPipelineError(error) : new PipelineError({
    reason: "Kafka",
    retriable: false,
    message:
      `a record of ${bytesOf(record)} bytes for topic ${topic} is larger than the brokers take there: raise the ` +
      `topic's max.message.bytes, or let its contract's maxMessageBytes say what they take: then the record fails by itself`,
    cause: error,
  })

const refusalOfState = (
  plan: Plan,
  { task, changes }: Work,
  record: ProducerRecord,
  error: KafkaError,
): PipelineError => {
  const { store } = changes.find(({ store }) => changelogTopic(plan.name, store) === record.topic) ?? { store: "" }
  return error.code !== "MESSAGE_TOO_LARGE" ? asPipelineError(error) : new PipelineError({
    reason: "State",
    retriable: false,
    message:
      `store ${store} of task ${taskKey(task)} has an entry of ${bytesOf(record)} bytes, which is larger than its ` +
      `changelog ${record.topic} takes: raise the topic's max.message.bytes, or keep less by key`,
    cause: error,
  })
}

const bytesOf = ({ key, value }: Pick<ProducerRecord, "key" | "value">): number =>
  (key?.length ?? 0) + (value?.length ?? 0)

/** Without the work of these tasks. */
export const without = (
  prepared: ReadonlyArray<Prepared>,
  refused: ReadonlyArray<Refused>,
): ReadonlyArray<Prepared> => {
  const tasks = new Set(refused.map(({ task }) => task))
  return prepared.filter(({ work }) => !tasks.has(work.task))
}
