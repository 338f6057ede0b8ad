/** What a batch is doing in a stage: working, or only waiting. */
import { Effect } from "effect"
import { HoldingBack } from "./Task.ts"

/**
 * Tells the task while nothing of its batch is being worked on and something waits for time to pass: a task that is to
 * let go then does so at once, and the batch is read again wherever the task goes on. One per stage and task.
 */
export class Waiting {
  readonly #task: typeof HoldingBack.Service
  #working = 0
  #waiting = 0
  #held = false

  private constructor(task: typeof HoldingBack.Service) {
    this.#task = task
  }

  static readonly make: Effect.Effect<Waiting> = Effect.map(HoldingBack, (task) => new Waiting(task))

  /** Runs an effect that only waits; where it was all that went on, it ends once the task may go on. */
  wait<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      this.#count(0, 1)
      return effect.pipe(
        Effect.tap(() => this.#held ? this.#task.gate : Effect.void),
        Effect.ensuring(Effect.sync(() => this.#count(0, -1))),
      )
    })
  }

  /** Between two tries of one value, however soon they follow: waits while the task is to let go. */
  get pause(): Effect.Effect<void> {
    return this.wait(this.#task.gate)
  }

  /** Runs an effect that does something. */
  work<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      this.#count(1, 0)
      return Effect.ensuring(effect, Effect.sync(() => this.#count(-1, 0)))
    })
  }

  #count(working: number, waiting: number): void {
    this.#working += working
    this.#waiting += waiting
    const held = this.#working === 0 && this.#waiting > 0
    if (held === this.#held) return
    this.#held = held
    if (held) this.#task.hold()
    else this.#task.release()
  }
}

/** For stages inside a stage that waits itself: what both hold back at the same time is held back once. */
export const nested = (task: typeof HoldingBack.Service): typeof HoldingBack.Service => {
  let depth = 0
  return {
    hold: () => {
      if (depth++ === 0) task.hold()
    },
    release: () => {
      if (--depth === 0) task.release()
    },
    gate: task.gate,
  }
}
