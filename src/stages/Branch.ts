/** Part of a flow through stages of its own, and back. */
import { Context, Effect, Pull, Stream } from "effect"
import type { Batch } from "../Batch.ts"
import { keep, RecordDefect } from "../Batch.ts"
import { interleave } from "../Interleave.ts"
import { type Flow, fromStream, perTask, type Stage } from "../Flow.ts"

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
(flow) => {
  const At = atHand<A>()
  const inside = body(fromStream(
    Stream.unwrap(Effect.map(At, (at) => Stream.fromEffectRepeat(Effect.sync(() => at.batch!)))),
    { stage: "branch" },
  ))
  return perTask<A, A | B, F2, E2, never, never, R2>(
    Effect.gen(function* () {
      const at: AtHand<A> = { batch: undefined }
      const pull = yield* Stream.toPull(Stream.provideService(inside, At, at))
      return <F>(batch: Batch<A, F>) =>
        Effect.suspend(() => {
          const matches = batch.values.map((value, i) => holds(is, value, batch, i))
          at.batch = { ...keep(batch, (i) => matches[i]!), failed: [] }
          return Effect.map(Pull.catchDone(pull, () => Effect.die(ended)), ([out]) => {
            const through: Batch<B, F | F2> = { ...out, failed: [...batch.failed, ...out.failed] }
            return interleave(keep(batch, (i) => !matches[i]), through)
          })
        })
    }),
    { stage: "when", inputs: [inside] },
  )(flow)
}

const holds = <A>(is: (value: A) => boolean, value: A, batch: Batch<A, unknown>, i: number): boolean => {
  try {
    return is(value)
  } catch (cause) {
    throw new RecordDefect(batch, i, cause)
  }
}

/** The batch that a branch's body works on: its source answers every pull with it. */
interface AtHand<A> {
  batch: Batch<A> | undefined
}

const ended = new Error("the body of a branch ended before its flow: use stages there, not Stream.take and the like")

let branches = 0
/** A key of its own for every branch, so that branches can stand inside branches. */
const atHand = <A>() =>
  Context.Reference<AtHand<A>>(`millrace/stages/Branch/${branches++}`, { defaultValue: () => ({ batch: undefined }) })
