/** What may happen to programs while records come in: as dice fall, so that it replays. */
import { Effect } from "effect"
import * as Faults from "../kafka/Faults.ts"
import type { Crew } from "./Crew.ts"
import type { Dice } from "./Dice.ts"
import type { Appended } from "./Feeding.ts"
import type { Network } from "./Network.ts"

/** The most programs of one pipeline at a time. */
const most = 3

/** The most parts that one feed is cut into. */
const parts = 8

export class Chaos {
  readonly #dice: Dice
  readonly #crashes: boolean
  readonly #crew: Crew
  readonly #network: Network

  constructor(dice: Dice, crashes: boolean, crew: Crew, network: Network) {
    this.#dice = dice
    this.#crashes = crashes
    this.#crew = crew
    this.#network = network
  }

  /** Feeds in parts, and lets something happen after each. */
  feed<E>(
    records: ReadonlyArray<Appended>,
    append: (some: ReadonlyArray<Appended>) => Effect.Effect<void, E>,
  ): Effect.Effect<void, E> {
    return Effect.gen({ self: this }, function* () {
      const longest = Math.ceil(records.length / 2)
      for (let from = 0, cut = 1; from < records.length; cut++) {
        const to = cut === parts ? records.length : Math.min(records.length, from + this.#dice.int(1, longest))
        yield* append(records.slice(from, to))
        from = to
        if (this.#crashes) yield* this.#happen
        yield* this.#wait(this.#dice.pick([0, 10, 200, 3_000]))
      }
    })
  }

  /** The network is whole again, and every pipeline has a program. */
  readonly calm: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.#crashes) return Effect.void
    this.#network.use(Faults.none)
    return this.#crew.restart
  })

  readonly #happen: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    yield* this.#wait(this.#dice.int(0, 300))
    const pipeline = this.#dice.pick(this.#crew.pipelines)
    const running = this.#crew.running(pipeline)
    switch (this.#dice.pick(["nothing", "start", "start", "stop", "crash", "crash at", "faults"])) {
      case "start":
        if (running.length < most) yield* this.#crew.start(pipeline)
        return
      case "stop":
        if (running.length > 0) yield* this.#dice.pick(running).stop
        return
      case "crash":
        if (running.length > 0) yield* this.#dice.pick(running).crash
        return
      case "crash at": {
        const crash = this.#dice.pick([Faults.crash, Faults.crashAfter])(Effect.void)
        return this.#network.use(Faults.nth(this.#dice.int(1, 30), () => true, crash))
      }
      case "faults":
        return this.#network.use(
          Faults.random(this.#dice.int(1, 1e9), { refuse: 0.03, loseAnswer: 0.03, delay: 0.1 }),
        )
    }
  })

  #wait(millis: number): Effect.Effect<void> {
    return Effect.asVoid(this.#crew.pass(millis, Effect.succeed(false)))
  }
}
