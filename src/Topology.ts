/** What a flow touches, read off its stages before anything runs: topics, stores, and the flows that feed it. */
import { Effect, Pull, Scope, Stream } from "effect"
import type { Batch } from "./Batch.ts"
import { type AnyFlow, type Flow, fromStream, type Node, type OnReplay, Shared } from "./Flow.ts"
import { PipelineError, type StoreSpec } from "./Task.ts"
import type { Any as AnyTopic } from "./Topic.ts"

/** One flow without its feeds: what a single kind of task reads, writes and keeps. */
export interface Topology {
  /** Those of `retries` stand last. */
  readonly reads: ReadonlyArray<AnyTopic>
  /** Those of `reads` that the flow's own stages write. */
  readonly retries: ReadonlyArray<AnyTopic>
  readonly writes: ReadonlyArray<AnyTopic>
  readonly stores: ReadonlyArray<StoreSpec<unknown>>
  /** Stages that run effects for their records, and what a replay may do with those. */
  readonly effects: ReadonlyArray<{ readonly stage: string; readonly onReplay: OnReplay | "undeclared" }>
  /** By the repartition topic it writes: the flow that feeds this one. */
  readonly feeds: ReadonlyMap<string, AnyFlow>
}

export const of = (flow: AnyFlow): Topology => {
  const all = nodes(flow)
  const retries = all.flatMap((node) => node.retries)
  return {
    reads: [...all.flatMap((node) => node.reads), ...retries],
    retries,
    writes: [...new Set(all.flatMap((node) => [...node.writes, ...node.failures]))],
    stores: all.flatMap((node) => node.stores),
    effects: all.flatMap(({ stage, effects }) => effects === undefined ? [] : [{ stage, onReplay: effects }]),
    feeds: new Map(all.flatMap((node) => node.feeds.map((feed) => [node.reads[0]!.name, feed] as const))),
  }
}

/** A flow and all flows that feed it through repartition topics, feeds first. */
export const subflows = (flow: AnyFlow): ReadonlyArray<AnyFlow> => [
  ...new Set([...[...of(flow).feeds.values()].flatMap(subflows), flow]),
]

/** All topics that a flow, and what feeds it, reads and writes, each once: those to create. Changelogs are the runner's. */
export const topics = (flow: AnyFlow): ReadonlyArray<AnyTopic> => {
  const all = subflows(flow).map(of).flatMap(({ reads, writes }) => [...reads, ...writes])
  return [...new Map(all.map((topic) => [topic.name, topic])).values()]
}

/** The flows that nothing stands before: one per topic that is read; inside a stage what it sends through. */
export const roots = (flow: AnyFlow): ReadonlySet<AnyFlow> => {
  const seen = new Set([flow])
  for (const { node } of seen) for (const input of node.inputs) seen.add(input)
  return new Set([...seen].filter(({ node }) => node.inputs.length === 0))
}

/** What a flow is made of, from its end to its beginning. */
export const nodes = (flow: AnyFlow): ReadonlyArray<Node> => [...reach(flow).keys()].map(({ node }) => node)

/** Refuses, when a pipeline is made, what would only fail when it runs. */
export const check = (name: string, flow: AnyFlow): void => {
  const all = subflows(flow).map(of)
  const twice = (names: ReadonlyArray<string>) => names.find((name, i) => names.indexOf(name) !== i)
  const topic = twice(all.flatMap((topology) => topology.reads.map((topic) => topic.name)))
  if (all.some(({ retries }) => retries.some(({ name }) => name === topic))) {
    throw refused(`pipeline ${name} has two stages with retry topic ${topic}: give each stage topics of its own`)
  }
  if (topic !== undefined) {
    throw refused(`pipeline ${name} reads topic ${topic} twice: make one flow of it and use that flow in both places`)
  }
  const store = twice(all.flatMap((topology) => topology.stores.map((store) => store.name)))
  if (store !== undefined) throw refused(`pipeline ${name} has two stores named ${store}: give each stage a name`)
}

export const refused = (message: string): PipelineError =>
  new PipelineError({ reason: "Definition", retriable: false, message })

/** Every flow that `flow` is made of, with how many stages consume it. */
const reach = (flow: AnyFlow): ReadonlyMap<AnyFlow, number> => {
  const consumers = new Map<AnyFlow, number>([[flow, 0]])
  const pending = [flow]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const input of [...next.node.inputs, ...next.node.insides]) {
      if (!consumers.has(input)) pending.push(input)
      consumers.set(input, (consumers.get(input) ?? 0) + 1)
    }
  }
  return consumers
}

/** A flow as one task runs it: flows in it that several stages consume are read once. */
export const running = <A, F, E, R>(flow: Flow<A, F, E, R>): Stream.Stream<Batch<A, F>, E, R> => {
  const shared = [...reach(flow)].filter(([, consumers]) => consumers > 1)
  if (shared.length === 0) return flow
  return Stream.unwrap(Effect.map(Effect.scope, (scope) => {
    const tees = new Map(shared.map(([flow, consumers]) => [flow, tee(flow, consumers, scope)]))
    return Stream.provideService(flow, Shared, tees)
  }))
}

/**
 * Hands every batch of `flow` to each of its consumers. They meet again in a merge that pulls them in turn, so one never
 * runs ahead of another by more than a batch, and nothing needs to be buffered.
 */
const tee = (flow: AnyFlow, consumers: number, scope: Scope.Scope): AnyFlow => {
  type Chunk = readonly [Batch<unknown, unknown>, ...Array<Batch<unknown, unknown>>]
  const waiting = Array.from({ length: consumers }, (): Array<Chunk> => [])
  let opened = 0
  let source: Pull.Pull<Chunk, unknown, void, unknown> | undefined
  return fromStream(
    Stream.unwrap(Effect.gen(function* () {
      const own = waiting[opened++ % consumers]!
      source ??= yield* Scope.provide(Stream.toPull(flow), scope)
      const pull = Effect.suspend(() => {
        const next = own.shift()
        if (next !== undefined) return Effect.succeed(next)
        return Effect.map(source!, (chunk) => {
          for (const other of waiting) if (other !== own) other.push(chunk)
          return chunk
        })
      })
      return Stream.fromPull(Effect.succeed(pull))
    })),
    { stage: "shared" },
  )
}
