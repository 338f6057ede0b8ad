/** Steps that decide, and steps whose failures are dealt with where they occur. */
import { Effect, Result, Schedule, Schema } from "effect"
import { DeadLetter, Decider, Failures, Flow } from "../../../src/index.ts"
import * as Commands from "../reference/Commands.ts"
import * as Handling from "../reference/Handling.ts"
import { Dlt, type Draw, Events, loose, ownerOf, type Reading, seconds } from "./Steps.ts"

class Overdrawn extends Schema.TaggedError<Overdrawn>()("Overdrawn", { message: Schema.String }) {}

/** Even numbers are paid in, in two parts from 6 on; odd ones are paid out, if there is as much. */
const decide = (balance: number, n: number): ReadonlyArray<number> | undefined => {
  if (n % 2 === 0) return n === 0 ? [] : n < 6 ? [n] : [n - 1, 1]
  return n > balance ? undefined : [-n]
}

export const decider: Draw = (dice, name) => {
  const atMost = dice.pick([100, 100, 2])
  const asEvents = dice.int(0, 2) === 0
  const rules = { initial: 3, aggregate: ownerOf, decide, atMost, window: 86_400 * seconds }
  const account = Decider.make({
    name,
    state: Schema.Int,
    event: Schema.Int,
    rejection: Overdrawn,
    initial: rules.initial,
    aggregate: ({ id }: Reading) => ownerOf(id),
    commandId: ({ id }: Reading) => id,
    decide: (balance: number, { n }: Reading) =>
      Result.fromNullishOr(decide(balance, n), () => new Overdrawn({ message: "too much" })),
    evolve: (balance: number, event: number) => balance + event,
    remember: { atMost, window: rules.window },
  })
  const publish = Decider.to(
    Events,
    ({ commandId, version, event }: Decider.Recorded<number>) => ({ id: commandId, n: event, at: version }),
  )
  const decided = Flow.map(({ commandId, outcome, events, command }: Decider.Decided<Reading, number>) => {
    const list = events.map(({ event }) => event)
    const version = events.length === 0 ? "" : events[0]!.version - 1
    return { id: `${commandId} ${outcome} ${version}:${list}`, n: list.reduce((a, b) => a + b, 0), at: command.at }
  })
  const event = Flow.map((of: Decider.Recorded<number>, { timestamp }) => ({
    id: `${of.key}.${of.version}`,
    n: of.event,
    at: timestamp,
  }))
  return {
    name: `decide, remembering ${atMost}${asEvents ? ", events" : ""}`,
    uses: ["decider", ...asEvents ? ["Decider.events"] : []],
    stage: loose((flow: never) => {
      const stage = Decider.stage(account, { publish })(flow) as never
      return asEvents ? event(Decider.events(stage) as never) : decided(stage)
    }),
    reference: (stream) => {
      const out = Commands.decide(rules, Events.name)(stream)
      return asEvents ? Commands.events(out) : out
    },
  }
}

class Busy extends Schema.TaggedError<Busy>()("Busy", { message: Schema.String }) {}
class Wrong extends Schema.TaggedError<Wrong>()("Wrong", { message: Schema.String }) {}

const route = { "dead letter": DeadLetter.to(Dlt), skip: Failures.skip, stays: undefined }

/** Some numbers are wrong, and for others there is no answer: at first, or ever. */
export const handle: Draw = (dice, name) => {
  const retries = dice.int(1, 3)
  const holds = dice.int(0, 3) === 0
  const busy = dice.pick(["dead letter", "skip", "stays"] as const)
  const wrong = dice.pick(["dead letter", "skip", "stays"] as const)
  const trouble = ({ n }: { readonly n: number }): Handling.Trouble | undefined => {
    if (Math.abs(n) % 7 === 3) return { reason: "Wrong", cured: Infinity }
    if (n % 3 !== 0) return undefined
    return { reason: "Busy", cured: [holds ? 2 : Infinity, 1, retries][Math.abs(n) / 3 % 3]! }
  }
  const tried = new Map<string, number>()
  const attempt = Flow.effect((value: Reading, { topic, offset }) => {
    const found = trouble(value)
    const name = `${topic}@${offset} ${value.id} ${value.n}`
    const before = tried.get(name) ?? 0
    tried.set(name, before + 1)
    if (found === undefined || before >= found.cured) return Effect.succeed(value)
    return Effect.fail(new (found.reason === "Busy" ? Busy : Wrong)({ message: "no" }) as Busy | Wrong)
  }, { concurrency: dice.int(1, 3) })
  const schedule = Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(retries)])
  const then = route[busy]
  const table = {
    Busy: holds
      ? Failures.hold(Schedule.spaced("1 second"))
      : then === undefined
      ? Failures.retry(schedule)
      : Failures.retry(schedule, then),
    ...route[wrong] !== undefined && { Wrong: route[wrong] },
  }
  return {
    name: `handle (Busy ${holds ? "held" : `${retries} times, then ${busy}`}, Wrong ${wrong})`,
    uses: ["Failures.handle", "Flow.effect", holds ? "hold" : "retry in place"],
    stage: loose(Failures.handle({ name }, attempt as never, table as never)),
    reference: Handling.handle(trouble, {
      dlt: Dlt.name,
      retries: { Busy: holds ? Infinity : retries },
      routes: { Busy: busy, Wrong: wrong },
    }),
    begin: () => tried.clear(),
  }
}
