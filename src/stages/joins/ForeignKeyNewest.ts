/** The last part of a foreign-key join, by primary key again: of the results that come back only the newest go on. */
import { Effect, Schema } from "effect"
import type { Batch } from "../../Batch.ts"
import type { Stage } from "../../Flow.ts"
import { type Dated, Forgetting } from "../../state/Forgetting.ts"
import { Logged, type PipelineError } from "../../Task.ts"
import { type Change, deletion, upsert } from "../Change.ts"
import { isOlder, type Response, type Version } from "./ForeignKeyTopics.ts"
import { type Out, type PerRecord, perRecord } from "./PerRecord.ts"

/** The newest result of a left row, by the version of that; `gone` where there is none. */
interface Seen extends Dated, Version {
  /** Event time of the result. */
  readonly time: number
}

const Seen: Schema.Codec<Seen, unknown> = Schema.Struct({
  at: Schema.Finite,
  nth: Schema.Int,
  time: Schema.Finite,
  gone: Schema.optionalKey(Schema.Literal(true)),
})

export const newest = <C>(
  name: string,
  deletions: number,
): Stage<Response<C>, Change<C>, never, PipelineError, Logged> => {
  const spec = { name: `${name}-newest`, shape: "newest results", value: Seen }
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(spec)
    return [store, new Newest<C>(new Forgetting(store, deletions))] as const
  })
  return perRecord<Response<C>, Change<C>, never>(name, open, { stage: "newest", stores: [spec] })
}

class Newest<C> implements PerRecord<Response<C>, Change<C>, never> {
  readonly #seen: Forgetting<Seen>

  constructor(seen: Forgetting<Seen>) {
    this.#seen = seen
  }

  advance(now: number): void {
    this.#seen.advance(now)
  }

  add(
    response: Response<C>,
    _: number,
    i: number,
    batch: Batch<unknown, unknown>,
    out: Out<Change<C>, never>,
  ): void {
    const { primaryKey, at, nth, row } = response
    const known = this.#seen.get(primaryKey)
    if (known !== undefined && isOlder(response, known)) return out.drop(batch, i, "superseded")
    out.folded++
    // The right row may be an older one than before: the times of a key's results never go back all the same.
    const time = Math.max(response.time, known?.time ?? response.time)
    this.#seen.set(primaryKey, { at, nth, time, ...row === undefined && { gone: true } })
    if (row !== undefined) out.emit(upsert(row), i, time)
    else if (known !== undefined && !known.gone) out.emit(deletion, i, time)
  }
}
