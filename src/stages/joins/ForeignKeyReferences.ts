/** The first part of a foreign-key join, by primary key: which right row each left row refers to. */
import { Effect, Schema } from "effect"
import { type Batch, RecordDefect } from "../../Batch.ts"
import type { Stage } from "../../Flow.ts"
import { type Dated, Forgetting } from "../../state/Forgetting.ts"
import { Logged, type PipelineError } from "../../Task.ts"
import type { Change } from "../Change.ts"
import type { Subscription } from "./ForeignKeyTopics.ts"
import { type Out, type PerRecord, perRecord } from "./PerRecord.ts"
import { groupKey, type Keyless } from "../Window.ts"

/** What was last said of a left row; `gone` where that was its deletion. */
interface Reference extends Dated {
  readonly nth: number
  readonly foreignKey?: string
}

const Reference: Schema.Codec<Reference, unknown> = Schema.Struct({
  at: Schema.Finite,
  nth: Schema.Int,
  foreignKey: Schema.optionalKey(Schema.String),
  gone: Schema.optionalKey(Schema.Literal(true)),
})

export interface Options<in A> {
  readonly name: string
  foreignKey(row: A): string | null | undefined
}

export const references = <A>(
  options: Options<A>,
  deletions: number,
): Stage<Change<A>, Subscription<A>, Keyless, PipelineError, Logged> => {
  const spec = { name: `${options.name}-references`, shape: "references", value: Reference }
  const open = Effect.gen(function* () {
    const store = yield* (yield* Logged).store(spec)
    return [store, new References(new Forgetting(store, deletions), options)] as const
  })
  return perRecord<Change<A>, Subscription<A>, Keyless>(options.name, open, { stage: "foreign key", stores: [spec] })
}

class References<A> implements PerRecord<Change<A>, Subscription<A>, Keyless> {
  readonly #references: Forgetting<Reference>
  readonly #options: Options<A>

  constructor(references: Forgetting<Reference>, options: Options<A>) {
    this.#references = references
    this.#options = options
  }

  advance(now: number): void {
    this.#references.advance(now)
  }

  add(
    { row }: Change<A>,
    at: number,
    i: number,
    batch: Batch<unknown, unknown>,
    out: Out<Subscription<A>, Keyless>,
  ): void {
    const primaryKey = groupKey(batch, i, this.#options.name)
    if (typeof primaryKey !== "string") return out.fail(batch, i, primaryKey)
    const known = this.#references.get(primaryKey)
    if (known !== undefined && known.at > at) return out.drop(batch, i, "superseded")
    out.folded++
    const version = { primaryKey, at, nth: known?.at === at ? known.nth + 1 : 0 }
    const foreignKey = row === undefined ? undefined : this.#foreignKey(row, batch, i)
    this.#references.set(primaryKey, {
      at,
      nth: version.nth,
      ...foreignKey !== undefined && { foreignKey },
      ...row === undefined && { gone: true },
    })
    const before = known?.foreignKey
    if (row === undefined) {
      // Who has the row answers that it is gone.
      out.emit(before === undefined ? version : { ...version, foreignKey: before }, i, at)
      return
    }
    if (before !== undefined && before !== foreignKey) {
      out.emit({ ...version, foreignKey: before, moved: true }, i, at)
    }
    out.emit(foreignKey === undefined ? { ...version, row } : { ...version, foreignKey, row }, i, at)
  }

  #foreignKey(row: A, batch: Batch<unknown, unknown>, i: number): string | undefined {
    try {
      return this.#options.foreignKey(row) ?? undefined
    } catch (cause) {
      throw new RecordDefect(batch, i, cause)
    }
  }
}
