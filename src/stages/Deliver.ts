/** Results on their way to a topic. */
import { Buffer } from "node:buffer"
import { Schema } from "effect"
import type { Batch, Failed, Headers, Outgoing } from "../Batch.ts"
import { ask, fail, failing, keyBytes, type RecordContext, RecordDefect, row } from "../Batch.ts"
import { each, type Flow, type Stage } from "../Flow.ts"
import type { Any as AnyTopic, Topic } from "../Topic.ts"
import { type Change, timeHeader } from "./Change.ts"
import { encoded, tooLarge, Undeliverable, undeliverable } from "./Record.ts"

export { Undeliverable }

/** What a value is meant for is none of the topics that its stage names. */
export class Unroutable extends Schema.TaggedError<Unroutable>()("Unroutable", { message: Schema.String }) {}

/**
 * Writes every value to `topic` when its batch commits, keyed as the contract says (by the record's own key where the
 * contract has none), and passes it on. Values of one key keep their order.
 */
export const to =
  <B>(topic: Topic<B>) => <A extends B, F, E, R>(flow: Flow<A, F, E, R>): Flow<A, F | Undeliverable, E, R> =>
    derived(topic, (value: A): B => value)(flow)

/** Writes to `topic` what `of` makes of every value, and passes the value itself on. */
export const derived = <A, B>(topic: Topic<B>, of: (value: A) => NoInfer<B>): Stage<A, A, Undeliverable> =>
  delivering(topic, of, {})

export interface LatestOptions<in A> {
  /**
   * Whether a value says that there is nothing any more under its key: a tombstone is then written, a record without a
   * value, which compaction takes as a deletion. It holds its event time in the header `millrace-time`, as `table` writes
   * it. What `of` makes of such a value only serves for its key.
   */
  isDeleted?(value: A): boolean
}

/**
 * Like `derived`, for topics of which the last value per key counts: of the values that one batch has for a key, only the
 * last that does not fail is written.
 */
export const latest = <A, B>(
  topic: Topic<B>,
  of: (value: A) => NoInfer<B>,
  options?: LatestOptions<A>,
): Stage<A, A, Undeliverable> => delivering(topic, of, { latest: true }, options)

const delivering = <A, B>(
  topic: Topic<B>,
  of: (value: A) => B,
  how: Pick<Outgoing, "latest">,
  options?: LatestOptions<A>,
) =>
  each<A, A, Undeliverable>(
    <F>(batch: Batch<A, F>) =>
      deliver<A, F>(batch, () => topic, of, how, options?.isDeleted) as Batch<A, F | Undeliverable>,
    { stage: "deliver", writes: [topic] },
  )

export interface Routes<in A> {
  /** Where values can go: known before anything runs, for plans and access rules. */
  readonly topics: readonly [AnyTopic, ...Array<AnyTopic>]
  /** The topic of a value, or its name. */
  to(value: A, record: RecordContext): AnyTopic | string
  /** What is written of a value: the value itself unless given. */
  of?(value: A, record: RecordContext): unknown
}

/**
 * Writes every value to the topic that `to` chooses for it, keyed as that topic's contract says, and passes the value on.
 * Values of one key and one topic keep their order. A choice that is none of `topics` fails with `Unroutable`; a value that
 * its topic's schema refuses is `Undeliverable`: types do not see here what goes where. Where they can, use `Branch.match`.
 */
export const route = <A>(routes: Routes<A>): Stage<A, A, Undeliverable | Unroutable> => {
  const topics = new Map(routes.topics.map((topic) => [topic.name, topic]))
  if (topics.size === 0) throw new RangeError("Deliver.route: topics names where values can go, and it is empty")
  const choose = (value: A, record: RecordContext): AnyTopic | undefined => {
    const chosen = routes.to(value, record)
    return topics.get(typeof chosen === "string" ? chosen : chosen.name)
  }
  const of = (value: A, record: RecordContext) => routes.of === undefined ? value : routes.of(value, record)
  return each<A, A, Undeliverable | Unroutable>(<F>(batch: Batch<A, F>) => {
    const chosen = batch.values.map((_, i) => ask(choose, batch, i))
    return deliver<A, F>(batch, (i) => chosen[i], of, {})
  }, { stage: "deliver", writes: [...topics.values()] })
}

const unroutable = new Unroutable({ message: "is meant for none of the topics that its stage names" })

/**
 * Writes every change of a table to a compacted topic, in order: a row as its value, a deletion as a tombstone, with the time
 * of the change in the header `millrace-time`. Read it with `Table.topic`. Rows keep the keys of their records; where the
 * contract says another key the row is refused, for its deletion would miss it.
 */
export const table =
  <B>(topic: Topic<B>) =>
  <A extends B, F, E, R>(flow: Flow<Change<A>, F, E, R>): Flow<Change<A>, F | Undeliverable, E, R> =>
    each<Change<A>, Change<A>, Undeliverable>((batch) => deliverChanges(batch, topic), {
      stage: "deliver",
      writes: [topic],
    })(flow)

const deliver = <A, F>(
  batch: Batch<A, F>,
  topicOf: (i: number) => AnyTopic | undefined,
  of: (value: A, record: RecordContext) => unknown,
  how: Pick<Outgoing, "latest">,
  isDeleted?: (value: A) => boolean,
): Batch<A, F | Undeliverable | Unroutable> => {
  const { values, units } = batch
  const made = new Array<unknown>(values.length)
  for (let i = 0; i < values.length; i++) if (topicOf(i) !== undefined) made[i] = ask(of, batch, i)
  const outgoing: Array<Outgoing> = []
  const failures: Array<Failed<Undeliverable | Unroutable>> = []
  for (let i = 0; i < values.length; i++) {
    const topic = topicOf(i)
    if (topic === undefined) {
      failures.push(failing(batch, i, unroutable))
      continue
    }
    const isGone = isDeleted !== undefined && ask(isDeleted, batch, i)
    const value = isGone ? null : encoded(topic, made[i])
    if (value instanceof Undeliverable) {
      failures.push(failing(batch, i, value))
      continue
    }
    const key = topic.key === null ? keyBytes(batch, i) : keyed(topic, made[i], batch, i)
    const problem = isGone && key === null ? keyless(topic) : tooLarge(topic, key, value)
    if (problem !== undefined) {
      failures.push(failing(batch, i, problem))
      continue
    }
    const out = {
      topic: topic.name,
      key,
      value,
      row: row(batch, i),
      ...isGone && { headers: changedAt(batch, i) },
      ...how,
    }
    outgoing.push(units === undefined ? out : { ...out, unit: units[i]! })
  }
  return fail<A, F, Undeliverable | Unroutable>(sending(batch, outgoing), failures)
}

const keyed = (topic: AnyTopic, value: unknown, batch: Batch<unknown, unknown>, i: number): Buffer | null => {
  try {
    const key = topic.keyOf(value)
    return key === null ? null : Buffer.from(key)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}

const deliverChanges = <A extends B, B, F>(
  batch: Batch<Change<A>, F>,
  topic: Topic<B>,
): Batch<Change<A>, F | Undeliverable> => {
  const { values, units } = batch
  const outgoing: Array<Outgoing> = []
  const failures: Array<Failed<Undeliverable>> = []
  for (let i = 0; i < values.length; i++) {
    const changed = values[i]!.row
    const at = row(batch, i)
    const key = keyBytes(batch, i)
    const value = changed === undefined ? null : encoded(topic, changed)
    const problem = value instanceof Undeliverable
      ? value
      : misplaced(batch, i, topic, key) ?? tooLarge(topic, key, value)
    if (problem !== undefined) {
      failures.push(failing(batch, i, problem))
      continue
    }
    outgoing.push({
      topic: topic.name,
      key,
      value: value as Uint8Array | null,
      row: at,
      headers: changedAt(batch, i),
      ...units !== undefined && { unit: units[i]! },
    })
  }
  return fail<Change<A>, F, Undeliverable>(sending(batch, outgoing), failures)
}

const keyless = (topic: AnyTopic): Undeliverable =>
  undeliverable(topic, "key", "a deletion needs a key, and this one has none")

/** The event time of a change, for who reads the topic as a table. */
const changedAt = ({ source, time, rows }: Batch<unknown, unknown>, i: number): Headers => {
  const at = time === undefined ? source.timestamps[rows === undefined ? i : rows[i]!]! : time.timestamps[i]!
  return [[timeHeader, Buffer.from(String(at))]]
}

/** Why the row of a change cannot be found again under its key. */
const misplaced = <B>(
  batch: Batch<Change<B>, unknown>,
  i: number,
  topic: Topic<B>,
  key: Uint8Array | null,
): Undeliverable | undefined => {
  if (key === null) return undeliverable(topic, "key", "a row of a table needs a key, and this one has none")
  const changed = batch.values[i]!.row
  if (topic.key === null || changed === undefined) return undefined
  const named = keyed(topic, changed, batch, i)
  if (named !== null && named.equals(key)) return undefined
  return undeliverable(topic, "key", `topic ${topic.name} has another key for this row than its record`)
}

const sending = <A, F>(batch: Batch<A, F>, outgoing: ReadonlyArray<Outgoing>): Batch<A, F> => ({
  ...batch,
  outgoing: batch.outgoing.length === 0 ? outgoing : [...batch.outgoing, ...outgoing],
})
