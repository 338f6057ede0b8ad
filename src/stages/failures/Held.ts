/** A task that waits in a stage until records succeed: told to who runs the task, to a gauge and to the log. */
import { Clock, Effect, Metric, type Scope } from "effect"
import type { Failure } from "../../Batch.ts"
import { monotonic } from "../../Pace.ts"
import { type HoldingBack, Task } from "../../Task.ts"

/** Tasks of this process that wait for what a stage needs, by stage and reason: their partitions are not read. */
export const heldTasks = Metric.gauge("millrace_tasks_held", {
  description: "Tasks of this process that wait until records of a stage succeed, by stage and reason",
})

/** How long records are tried again in place before the task counts as held, in milliseconds. */
const patience = 5_000

/** Timers hold at most 2^31 milliseconds. */
const longestSleep = 3_600_000

/** What is waited for. */
export interface Need {
  /** By the tags of the failures that say so. */
  readonly tags: ReadonlySet<string>
  readonly example: Failure
  /** Whether the task is held at once, because what it waits for may take any time. */
  readonly isOutage: boolean
}

export class Held {
  readonly #name: string
  readonly #partition: number
  readonly #task: typeof HoldingBack.Service
  readonly #clock: Clock.Clock
  readonly #tags = new Set<string>()
  #isHeld = false

  private constructor(
    name: string,
    partition: number,
    task: typeof HoldingBack.Service,
    clock: Clock.Clock,
  ) {
    this.#name = name
    this.#partition = partition
    this.#task = task
    this.#clock = clock
  }

  static readonly make = Effect.fnUntraced(function* (
    name: string,
    task: typeof HoldingBack.Service,
  ): Effect.fn.Return<Held, never, Task | Scope.Scope> {
    const held = new Held(name, (yield* Task).partition, task, yield* Clock.clockWith(Effect.succeed))
    yield* Effect.addFinalizer(() => held.#tell(new Set()))
    return held
  })

  /** Waits until `due`, for what has been missing `since`; then, where the task is held, until it may go on. By `elapsed`. */
  readonly wait = Effect.fnUntraced({ self: this }, function* (this: Held, need: Need, since: number, due: number) {
    const now = () => monotonic(this.#clock)
    for (;;) {
      if (need.isOutage || now() - since >= patience) yield* this.#hold(need)
      const left = due - now()
      if (left <= 0) break
      yield* Effect.sleep(Math.ceil(Math.min(left, this.#isHeld ? longestSleep : since + patience - now())))
    }
    if (this.#isHeld) yield* this.#task.gate
  })

  /** Nothing is missing any more. */
  readonly release: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.#isHeld) return Effect.void
    this.#isHeld = false
    this.#task.release()
    return Effect.andThen(
      this.#tell(new Set()),
      Effect.logInfo(`stage ${this.#name} goes on in partition ${this.#partition}`),
    )
  })

  #hold({ tags, example }: Need): Effect.Effect<void> {
    if (this.#isHeld) return this.#tell(tags)
    this.#isHeld = true
    this.#task.hold()
    const message = `stage ${this.#name} holds up partition ${this.#partition} while it tries again: ` +
      `${example._tag}: ${example.message}`
    return Effect.andThen(this.#tell(tags), Effect.logWarning(message))
  }

  #tell(tags: ReadonlySet<string>): Effect.Effect<void> {
    const changes = [
      ...[...this.#tags].filter((tag) => !tags.has(tag)).map((tag) => [tag, -1] as const),
      ...[...tags].filter((tag) => !this.#tags.has(tag)).map((tag) => [tag, 1] as const),
    ]
    this.#tags.clear()
    for (const tag of tags) this.#tags.add(tag)
    return Effect.forEach(
      changes,
      ([reason, change]) => Metric.modify(Metric.withAttributes(heldTasks, { stage: this.#name, reason }), change),
      { discard: true },
    )
  }
}
