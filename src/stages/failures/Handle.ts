/** Stages whose failures are dealt with where they occur, by one table. */
import { Stream } from "effect"
import { type AnyFlow, type Flow, fromStream, perTask } from "../../Flow.ts"
import type { PipelineError, Task } from "../../Task.ts"
import * as Topology from "../../Topology.ts"
import { inside } from "../Branch.ts"
import * as Handling from "./Handling.ts"
import { Entry } from "./Parking.ts"
import { byTag, laterOf, type Left, type Needs, type Occurring, routeOf, type Table } from "./Policies.ts"
import { reentering } from "./Reentry.ts"
import type { Order, RetryTopics } from "../Retry.ts"

/**
 * Sends values through the stages of `body`, and deals with their failures by the table: `hold` and `retry` try again in
 * place, `later` sends to retry topics, and any route (`DeadLetter.to`, `skip`, `stop`) gives the record up. A tag that the
 * table does not name stays a failure of the record; one that cannot occur does not compile.
 *
 * A record that fails loses what the stages inside have made of it, values and outgoing records; what is sent instead
 * commits with its position. Tried again are the records that failed and no others, with all values that they have at this
 * stage, from the beginning of `body`. Values go on in the order they came; what comes back from a retry topic goes on when
 * it succeeds, with its own event time, under the clock that the flow has then.
 *
 * What `body` does outside (an effect) happens at least once. In which order it happens depends on the retry topics: with
 * order `kept` the records of one key are tried one after the other, never one before an earlier one has succeeded or was
 * given up. Otherwise a batch is tried as a whole, and those that failed again after it.
 *
 * Refused when it is made: stages with logged state in `body`, where records would pass them twice; retry topics or merges
 * in `body`; stages before it that send results, where records can leave for a retry topic, because what they had sent
 * would be lost. `name` names the stage in records, metrics and logs, and where order is kept its store.
 */
export const handle = <A, B, F2, E2, R2, const T extends Table<A, F2>>(
  { name }: { readonly name: string },
  body: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
  table: T,
) =>
<F, E, R>(
  flow: Flow<A, F, E, R> & Occurring<T, F2>,
): Flow<B, F | Left<T, F2>, E | E2 | PipelineError, R | R2 | Task | Needs<T>> => {
  const policies = byTag(table)
  const laters = [...policies.values()].flatMap((policy) => laterOf(policy) ?? [])
  const sets = [...new Set(laters.map(({ topics }) => topics as unknown as RetryTopics<A, Order>))]
  const topics = sets.flatMap((set) => set.topics)
  const { flow: inner, open } = inside(body, name)
  if ([...policies.values()].some((policy) => "policy" in policy)) refuseState(name, inner)
  if (sets.length > 0) {
    refuseMisfit(name, flow, sets)
    refuseResults(name, flow)
  }
  const store = { name: `${name}-parked`, value: Entry }
  const node = {
    stage: "handle",
    retries: topics,
    failures: [...topics, ...[...policies.values()].flatMap((policy) => routeOf(policy)?.writes ?? [])],
    stores: sets[0]?.order === "kept" ? [store] : [],
  }
  const stage = (full: Handling.Full) =>
    perTask(
      Handling.make({ name, policies, sets, flow, store, full }, open),
      { ...node, insides: [inner] },
    )
  type Handled = Flow<B, F | Left<T, F2>, E | E2 | PipelineError, R | R2 | Task | Needs<T>>
  if (sets.length === 0) return stage({ isFull: () => false })(flow) as Handled
  return fromStream(
    Stream.suspend(() => {
      const full: Handling.Full = { isFull: () => false }
      return stage(full)(fromStream(reentering(flow, topics, () => full.isFull()), { stage: "reentry" }))
    }) as Handled,
    { ...node, inputs: [flow], insides: [inner] },
  ) as Handled
}

const refuseState = (name: string, inside: AnyFlow): void => {
  const [store] = Topology.of(inside).stores
  if (store === undefined) return
  throw Topology.refused(
    `stage ${name} tries records again, which would pass store ${store.name} inside it twice: put stages with logged state ` +
      "before it or behind it",
  )
}

const refuseMisfit = <A>(name: string, flow: AnyFlow, sets: ReadonlyArray<RetryTopics<A, Order>>): void => {
  if (sets.some(({ order }) => order !== sets[0]!.order)) {
    throw new RangeError(`stage ${name}: its retry topics must agree whether order is kept`)
  }
  const [input] = Topology.of(flow).reads
  const [topic] = sets.flatMap((set) => set.topics.filter(({ partitions }) => partitions !== input?.partitions))
  if (input !== undefined && topic !== undefined) {
    throw Topology.refused(
      `retry topic ${topic.name} has ${topic.partitions} partitions, and ${input.name}, which stage ${name} reads, has ` +
        `${input.partitions}: they must have equally many`,
    )
  }
}

const refuseResults = (name: string, flow: AnyFlow): void => {
  const node = Topology.nodes(flow).find(({ writes }) => writes.length > 0)
  if (node === undefined) return
  throw Topology.refused(
    `a record that leaves stage ${name} for a retry topic comes back to ${name}, and what was sent to ` +
      `${node.writes[0]!.name} before would be lost: send it inside ${name} or behind it`,
  )
}
