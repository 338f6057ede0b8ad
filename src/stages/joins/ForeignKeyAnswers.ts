/** The second part of a foreign-key join, by foreign key: left rows meet the right row that they refer to. */
import { Buffer } from "node:buffer"
import { Effect, Schema } from "effect"
import { type Batch, type Placed, RecordDefect } from "../../Batch.ts"
import type { Stage } from "../../Flow.ts"
import { Rows, spec as rowsSpec } from "../../state/Rows.ts"
import { Logged, type LoggedStore, type PipelineError } from "../../Task.ts"
import { isOlder, type Response, type Subscription, type Version } from "./ForeignKeyTopics.ts"
import { Beside, type Kind, type Match } from "./Joined.ts"
import { type Step, type Timed, timed } from "../Timed.ts"
import { groupKey, type Keyless } from "../Window.ts"

/** A left row that waits for news of its right row. */
interface Subscribed<out A> extends Version {
  readonly row: A
}

export interface Options<in A, in B, out C, K extends Kind> {
  readonly name: string
  readonly kind?: K
  join(left: A, right: Match<B, K>): C
}

export const answers = <A, B, C, K extends Kind>(
  rows: { readonly left: Schema.Codec<A, unknown>; readonly right: Schema.Codec<B, unknown> },
  options: Options<A, B, C, K>,
  deletions: number,
): Stage<Subscription<A> | Beside<B>, Response<C>, Keyless, PipelineError, Logged> => {
  const ofRight = rowsSpec(`${options.name}-right`, rows.right)
  const subscriptions = {
    name: `${options.name}-subscriptions`,
    shape: "rows by foreign key",
    value: Schema.Struct({ at: Schema.Finite, nth: Schema.Int, row: rows.left }) as Schema.Codec<
      Subscribed<A>,
      unknown
    >,
  }
  const open = Effect.gen(function* () {
    const logged = yield* Logged
    const store = yield* logged.store(ofRight)
    const answering = new Answers(store, deletions, yield* logged.store(subscriptions), options)
    return [store, answering] as const
  })
  return timed<Subscription<A> | Beside<B>, Response<C>, Keyless>(options.name, open, {
    stage: "foreign key join",
    stores: [ofRight, subscriptions],
  })
}

/** Where a left row is kept: the length of its foreign key, that, and its primary key. */
const idOf = (foreignKey: string, primaryKey: string): string => `${foreignKey.length}:${foreignKey}${primaryKey}`

const parseId = (id: string): readonly [foreignKey: string, primaryKey: string] => {
  const colon = id.indexOf(":") + 1
  const end = colon + Number(id.slice(0, colon - 1))
  return [id.slice(colon, end), id.slice(end)]
}

class Answers<A, B, C, K extends Kind> implements Timed<Subscription<A> | Beside<B>, Response<C>, Keyless> {
  readonly #streamTime: { readonly streamTime: number }
  readonly #right: Rows<B>
  readonly #store: LoggedStore<Subscribed<A>>
  readonly #options: Options<A, B, C, K>
  /** By foreign key, then by primary key. */
  readonly #subscribed = new Map<string, Map<string, Subscribed<A>>>()

  constructor(
    right: LoggedStore<{ readonly at: number; readonly row?: B }>,
    deletions: number,
    store: LoggedStore<Subscribed<A>>,
    options: Options<A, B, C, K>,
  ) {
    this.#streamTime = right
    this.#right = new Rows(right, deletions)
    this.#store = store
    this.#options = options
    for (const [id, subscribed] of store.entries()) {
      const [foreignKey, primaryKey] = parseId(id)
      this.#of(foreignKey).set(primaryKey, subscribed)
    }
  }

  get clock(): number {
    return this.#streamTime.streamTime
  }

  advance(now: number): void {
    this.#right.advance(now)
  }

  add(
    value: Subscription<A> | Beside<B>,
    timestamp: number,
    i: number,
    batch: Batch<unknown, unknown>,
    step: Step<Response<C>, Keyless>,
  ): void {
    if (!(value instanceof Beside)) return this.#subscribe(value, batch, i, step)
    const key = groupKey(batch, i, this.#options.name)
    if (typeof key !== "string") return step.fail(batch, i, key)
    const had = this.#right.get(key) !== undefined
    if (!this.#right.put(key, timestamp, value.change.row)) return step.drop("superseded")
    step.folded++
    if (!had && value.change.row === undefined) return
    for (const [primaryKey, { at, nth, row }] of this.#subscribed.get(key) ?? []) {
      this.#answer({ primaryKey, at, nth, foreignKey: key, row }, batch, i, step)
    }
  }

  #subscribe(
    subscription: Subscription<A>,
    batch: Batch<unknown, unknown>,
    i: number,
    step: Step<Response<C>, Keyless>,
  ): void {
    const { foreignKey, primaryKey, at, nth, row, moved } = subscription
    if (foreignKey !== undefined) {
      const id = idOf(foreignKey, primaryKey)
      const known = this.#store.get(id)
      if (known !== undefined && isOlder(subscription, known)) return step.drop("superseded")
      if (row === undefined) {
        this.#store.delete(id)
        this.#unsubscribe(foreignKey, primaryKey)
      } else {
        const subscribed = { at, nth, row }
        this.#store.set(id, subscribed)
        this.#of(foreignKey).set(primaryKey, subscribed)
      }
    }
    step.folded++
    if (!moved) this.#answer(subscription, batch, i, step)
  }

  #answer(
    { primaryKey, foreignKey, at, nth, row }: Subscription<A>,
    placed: Placed,
    i: number,
    step: Step<Response<C>, Keyless>,
  ): void {
    const right = foreignKey === undefined ? undefined : this.#right.get(foreignKey)
    const time = foreignKey === undefined ? at : Math.max(at, this.#right.changedAt(foreignKey))
    const response = { primaryKey, at, nth, time }
    const isMatch = row !== undefined && (right !== undefined || this.#options.kind === "left")
    const answer = isMatch ? { ...response, row: this.#join(row, right, placed, i) } : response
    step.emit(answer, Buffer.from(primaryKey), time, this.clock)
  }

  #join(left: A, right: B | undefined, placed: Placed, i: number): C {
    try {
      return this.#options.join(left, right as Match<B, K>)
    } catch (cause) {
      throw new RecordDefect(placed, i, cause)
    }
  }

  #of(foreignKey: string): Map<string, Subscribed<A>> {
    let of = this.#subscribed.get(foreignKey)
    if (of === undefined) this.#subscribed.set(foreignKey, of = new Map())
    return of
  }

  #unsubscribe(foreignKey: string, primaryKey: string): void {
    const of = this.#subscribed.get(foreignKey)
    if (of === undefined) return
    of.delete(primaryKey)
    if (of.size === 0) this.#subscribed.delete(foreignKey)
  }
}
