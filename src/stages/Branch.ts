/** Part of a flow through stages of its own, and back. */
import { Context, Effect, Pull, Stream } from "effect"
import type { Batch } from "../Batch.ts"
import { ask, type Failure, keep, type RecordContext } from "../Batch.ts"
import { underOneClock, weave } from "../Interleave.ts"
import { type AnyFlow, type Flow, fromStream, perTask, type Stage } from "../Flow.ts"
import * as Topology from "../Topology.ts"

/**
 * Sends the values for which `is` holds through `body`; the others pass. Both meet again in the order of their records,
 * because every stage answers one batch with one batch.
 */
export const when: {
  <A, A1 extends A, B, F2, E2, R2>(
    is: (value: A) => value is A1,
    body: (flow: Flow<A1>) => Flow<B, F2, E2, R2>,
  ): Stage<A, Exclude<A, A1> | B, F2, E2, R2>
  <A, B, F2, E2, R2>(
    is: (value: A) => boolean,
    body: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
  ): Stage<A, A | B, F2, E2, R2>
} = <A, B, F2, E2, R2>(
  is: (value: A) => boolean,
  body: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
): Stage<A, A | B, F2, E2, R2> =>
  split<A, A | B>("when", [body as Body], (batch, i) => ask(is, batch, i) ? 0 : passes) as Stage<A, A | B, F2, E2, R2>

type Body = (flow: Flow<never>) => AnyFlow

/** The values of `A` whose property `K` is `V`. */
type Tagged<A, K extends keyof A, V> = A extends { readonly [P in K]: infer W }
  ? V extends W ? [W] extends [V] ? A : A & { readonly [P in K]: V } : never
  : never

/** The values of `A` whose property `K` is none of `V`. */
type Untagged<A, K extends keyof A, V> = A extends unknown ? [A[K]] extends [V] ? never : A : never

type Names<T> = T extends string ? T : never

/** What a table of branches must not leave out, and must not name. */
type Complete<T, Tag> = [Exclude<Tag, keyof T>] extends [never] ? unknown
  : { readonly "no branch for": Exclude<Tag, keyof T> }
type Known<T, Tag> = { readonly [P in Exclude<keyof T, Tag>]: `no value has the tag ${P & string}` }

type Bodies<A, K extends keyof A> = { readonly [V in Names<A[K]>]?: (flow: Flow<Tagged<A, K, V>>) => AnyFlow }
type BodiesOf<A, K extends string> = { readonly [V in K]?: (flow: Flow<A>) => AnyFlow }

/** Of a branch that is a bare stage the compiler forgets what it can fail with: no route can name this. */
interface Bare extends Failure {
  readonly _tag: "those of a bare stage: write the branch as (flow) => flow.pipe(stage)"
}

type Made<T> = T[keyof T] extends infer Body ? Body extends (flow: never) => infer Made ? Made : never : never
type Out<M> = M extends Flow<infer A, unknown, unknown, unknown> ? A : never
type Fails<M> = M extends Flow<unknown, infer F, unknown, unknown> ? unknown extends F ? Bare : F : never
type Errors<M> = M extends Flow<unknown, unknown, infer E, unknown> ? E : never
type Needs<M> = M extends Flow<unknown, unknown, unknown, infer R> ? R : never
type Matched<A, M> = Stage<A, Out<M>, Fails<M>, Errors<M>, Needs<M>>

/**
 * Sends every value through the branch that is named by its tag, the value of one of its properties, and narrowed to what
 * has that tag. The branches must name every tag, or `otherwise` takes the values that none is named for. All meet again
 * in the order of their records; of the values of one record, in the order of the branches.
 *
 * A tag that no branch is named for, against the types, is a defect that names the record.
 */
export const match: {
  <A, const K extends keyof A, const T extends Bodies<A, K>>(
    tag: K,
    bodies: T & Complete<T, A[K]> & Known<T, A[K]>,
  ): Matched<A, Made<T>>
  <A, const K extends keyof A, const T extends Bodies<A, K>, B, F2, E2, R2>(
    tag: K,
    bodies: T & Known<T, A[K]>,
    otherwise: (flow: Flow<Untagged<A, K, keyof T>>) => Flow<B, F2, E2, R2>,
  ): Matched<A, Made<T> | Flow<B, F2, E2, R2>>
} = (tag: PropertyKey, bodies: Table, otherwise?: Body): never =>
  matching("match", (value) => (value as Readonly<Record<PropertyKey, unknown>>)[tag], bodies, otherwise)

/** As `match`, by the tag that a function answers: it narrows nothing. */
export const matchBy: {
  <A, K extends string, const T extends BodiesOf<A, K>>(
    tag: (value: A, record: RecordContext) => K,
    bodies: T & Complete<T, K> & Known<T, K>,
  ): Matched<A, Made<T>>
  <A, K extends string, const T extends BodiesOf<A, K>, B, F2, E2, R2>(
    tag: (value: A, record: RecordContext) => K,
    bodies: T & Known<T, K>,
    otherwise: (flow: Flow<A>) => Flow<B, F2, E2, R2>,
  ): Matched<A, Made<T> | Flow<B, F2, E2, R2>>
} = (tag: TagOf, bodies: Table, otherwise?: Body): never => matching("matchBy", tag, bodies, otherwise)

type TagOf = (value: never, record: RecordContext) => unknown
type Table = Readonly<Record<string, Body>>

const matching = (stage: string, tagOf: TagOf, bodies: Table, otherwise: Body | undefined): never => {
  const names = Object.keys(bodies)
  const places = new Map<unknown, number>(names.map((name, n) => [name, n]))
  const choose = (value: never, record: RecordContext): number => {
    const place = places.get(tagOf(value, record))
    if (place !== undefined) return place
    if (otherwise === undefined) throw new Error("no branch is named for its tag")
    return names.length
  }
  const all = names.map((name) => bodies[name]!)
  return split<never, never>(
    stage,
    otherwise === undefined ? all : [...all, otherwise],
    (batch, i) => ask(choose, batch, i),
  ) as never
}

/** The place of no body. */
const passes = -1

/** Sends every value through one of several bodies, or past all of them, and weaves the results in the order of rows. */
const split = <A, B>(
  stage: string,
  bodies: ReadonlyArray<Body>,
  choose: (batch: Batch<A, unknown>, i: number) => number,
): Stage<A, B, unknown, unknown, unknown> =>
(flow) => {
  const insides = bodies.map((body) =>
    inside<A, B, unknown, unknown, never>(body as (flow: Flow<A>) => Flow<B>, `Branch.${stage}`)
  )
  return perTask<A, B, unknown, unknown, never, never, never>(
    Effect.map(
      Effect.all(insides.map(({ open }) => open)),
      (branches) => <F>(batch: Batch<A, F>) =>
        Effect.suspend(() => {
          const chosen = batch.values.map((_, i) => choose(batch, i))
          let out = keep(batch, (i) => chosen[i] === passes) as Batch<unknown, unknown> as Batch<B, unknown>
          const through = Effect.forEach(
            branches,
            (through, n) =>
              Effect.map(through(batch, (i) => chosen[i] === n), (made) => {
                out = weave(out, made)
              }),
            { discard: true },
          )
          return Effect.map(through, () => underOneClock(out))
        }),
    ),
    { stage, insides: insides.map(({ flow }) => flow) },
  )(flow)
}

/**
 * A flow inside a stage, and how one task sends values of a batch through it: its answer has what failed before too. Made
 * anew for every flow that the stage is put behind.
 */
export const inside = <A, B, F2, E2, R2>(body: (flow: Flow<A>) => Flow<B, F2, E2, R2>, stage: string) => {
  const At = Context.Reference<AtHand<A>>(`millrace/stages/Branch/${branches++}`, {
    defaultValue: () => ({ batch: undefined }),
  })
  const source = Stream.unwrap(Effect.map(At, (at) => Stream.fromEffectRepeat(Effect.sync(() => at.batch!))))
  const flow = body(fromStream(source, { stage: "branch" }))
  refuseRetries(flow)
  refuseReads(stage, flow)
  const open = Effect.gen(function* () {
    const at: AtHand<A> = { batch: undefined }
    const pull = yield* Stream.toPull(Stream.provideService(flow, At, at))
    return <F>(batch: Batch<A, F>, is: (i: number) => boolean): Effect.Effect<Batch<B, F | F2>, E2> =>
      Effect.suspend(() => {
        at.batch = { ...keep(batch, is), failed: [] }
        return Effect.map(
          Pull.catchDone(pull, () => Effect.die(ended)),
          ([out]) => ({ ...out, failed: [...batch.failed, ...out.failed] }),
        )
      })
  })
  return { flow, open }
}

/** What comes back from a retry topic enters where its stage stands, which answers more batches than it is given. */
const refuseRetries = (inside: AnyFlow): void => {
  const [topic] = Topology.of(inside).retries
  if (topic === undefined) return
  throw Topology.refused(
    `a stage with retry topics (${topic.name}) cannot stand inside another stage: put it behind that, or let it hold or try ` +
      "again in place",
  )
}

/** A stage answers each batch with one of the same rows: what reads a topic there has others to answer with. */
const refuseReads = (stage: string, inside: AnyFlow): void => {
  const [topic] = Topology.of(inside).reads
  if (topic === undefined) return
  throw Topology.refused(`stage ${stage} reads topic ${topic.name} inside: merge, join or repartition before it`)
}

/** The batch that a branch's body works on: its source answers every pull with it. */
interface AtHand<A> {
  batch: Batch<A> | undefined
}

const ended = new Error("the body of a branch ended before its flow: use stages there, not Stream.take and the like")

/** A key of its own for every branch, so that branches can stand inside branches. */
let branches = 0
