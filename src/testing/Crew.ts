/** The programs of a run: how many of each pipeline there are, what became of them, and who follows those that died. */
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Faults from "../kafka/Faults.ts"
import type { AnyPipeline } from "./Controls.ts"
import type { Line } from "./Journal.ts"
import * as Process from "./Process.ts"

/** How long a supervisor waits before it starts a program again that has ended by itself, in milliseconds. */
const restartDelay = 1_000

/** Steps of the clock, in milliseconds: small ones while much is going on, larger ones for long waits. */
const stepAfter = (passed: number): number =>
  passed < 500 ? 5 : passed < 3_000 ? 20 : passed < 20_000 ? 100 : passed < 600_000 ? 1_000 : 10_000

export class Crew {
  readonly pipelines: ReadonlyArray<AnyPipeline>
  readonly #world: Process.World
  /** Whether programs that end by themselves are started again; those that a fault has crashed always are. */
  readonly #supervised: boolean
  readonly #processes: Array<Process.Process> = []
  readonly #followed = new Set<Process.Process>()
  readonly #endedAt = new Map<Process.Process, number>()

  constructor(pipelines: ReadonlyArray<AnyPipeline>, world: Process.World, supervised: boolean) {
    this.pipelines = pipelines
    this.#world = world
    this.#supervised = supervised
  }

  /** In the order of their starts; of one pipeline, by its name. */
  of(pipeline?: AnyPipeline): ReadonlyArray<Process.Process> {
    return this.#processes.filter((one) => pipeline === undefined || one.pipeline.name === pipeline.name)
  }

  running(pipeline?: AnyPipeline): ReadonlyArray<Process.Process> {
    return this.of(pipeline).filter((one) => one.fate() === "running")
  }

  start(pipeline: AnyPipeline, plan: Faults.Plan = Faults.none): Effect.Effect<Process.Process> {
    return Effect.suspend(() => Process.start(pipeline, this.#processes.length + 1, plan, this.#world)).pipe(
      Effect.tap((started) => Effect.sync(() => this.#processes.push(started))),
    )
  }

  /** Warnings and errors that programs have logged. */
  get warnings(): ReadonlyArray<Line> {
    return this.#world.journal.lines.filter(({ level }) => level === "Warn" || level === "Error" || level === "Fatal")
  }

  readonly crash: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(this.#processes, ({ crash }) => crash, { discard: true })
  )

  /** Starts a program of every pipeline that has none. */
  readonly restart: Effect.Effect<void> = Effect.suspend(() => {
    const without = this.pipelines.filter((pipeline) => this.running(pipeline).length === 0)
    for (const pipeline of without) for (const one of this.of(pipeline)) this.#followed.add(one)
    return Effect.forEach(without, (pipeline) => this.start(pipeline), { discard: true })
  })

  /** Starts followers of those that died and are to be followed. */
  readonly revive: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const now = yield* Clock.currentTimeMillis
    for (const one of [...this.#processes]) {
      if (!this.#isToFollow(one)) continue
      if (one.fate() === "ended") {
        const ended = this.#endedAt.get(one) ?? now
        this.#endedAt.set(one, ended)
        if (now - ended < restartDelay) continue
      }
      this.#followed.add(one)
      yield* this.start(one.pipeline)
    }
  })

  /** Whether somebody is about to follow a program of this pipeline that died. */
  isFollowed(pipeline: AnyPipeline): boolean {
    return this.of(pipeline).some((one) => this.#isToFollow(one))
  }

  #isToFollow(one: Process.Process): boolean {
    return !this.#followed.has(one) && (one.crashedAt() !== undefined || this.#supervised && one.fate() === "ended")
  }

  /** Lets time pass, step by step, until `done` holds or `limit` milliseconds have passed; answers whether it holds. */
  pass<E, R>(limit: number, done: Effect.Effect<boolean, E, R>): Effect.Effect<boolean, E, R> {
    return Effect.gen({ self: this }, function* () {
      yield* quiet
      for (let passed = 0;;) {
        yield* this.revive
        if (yield* done) return true
        if (passed >= limit) return false
        const step = Math.min(stepAfter(passed), limit - passed)
        yield* TestClock.adjust(step)
        passed += step
      }
    })
  }

  /** Ends everything that still runs, as fast as it can. */
  readonly end: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    yield* Effect.forEach(this.#processes, ({ stop }) => stop, { discard: true })
    const over = () => this.#processes.every(({ fiber }) => fiber.pollUnsafe() !== undefined)
    for (let i = 0; i < 600 && !over(); i++) yield* TestClock.adjust(i < 50 ? 20 : 1_000)
  })
}

/** Lets everything run that can run before the clock moves. */
const quiet = Effect.forEach(Array.from({ length: 10 }), () => Effect.yieldNow, { discard: true })
