/** Laws 0 to 5 of stages with tables of policies, as far as they depend on values alone. */
import { Effect, Result, Schedule } from "effect"
import { Branch, Check, DeadLetter, Deliver, Failures, Flow, Retry } from "../../src/index.ts"
import { laws } from "../support/Laws.ts"
import {
  type Case,
  decoded,
  Dlt,
  Latest,
  Odd,
  odd,
  Reading,
  Readings,
  refuseOdd,
  Results,
  twice,
} from "../support/StageCases.ts"

const visit = Flow.effect(
  (reading: Reading) => odd(reading) ? Effect.fail(new Odd({ message: "odd" })) : Effect.succeed(reading),
  { concurrency: 4 },
)

const retries = <const O extends Retry.Order>(order: O) =>
  Retry.topics({ name: "visit", of: Readings, value: Reading, delays: ["1 minute", "10 minutes"], order })
const [free, kept] = [retries("free"), retries("kept")]
const aside = kept.topics.map(({ name }) => name)

const wideOdd = Check.with((reading: Reading) =>
  reading.n === 7 ? Result.fail(new Odd({ message: "seven" })) : Result.succeed(reading)
)

const cases: ReadonlyArray<Case> = [
  {
    name: "retry in place, then a dead letter",
    flow: decoded.pipe(
      Failures.handle({ name: "visit" }, visit, { Odd: Failures.retry(Schedule.recurs(1), DeadLetter.to(Dlt)) }),
    ),
  },
  {
    name: "retry in place, then failed",
    flow: decoded.pipe(Failures.handle({ name: "visit" }, visit, { Odd: Failures.retry(Schedule.recurs(2)) })),
  },
  {
    name: "a table of routes for stages that drop and send",
    flow: decoded.pipe(
      Deliver.to(Results),
      Failures.handle(
        { name: "visit" },
        (flow) =>
          flow.pipe(
            Flow.filter(({ n }) => n > 2),
            twice,
            Deliver.latest(Latest, (reading) => reading),
            wideOdd,
            refuseOdd,
          ),
        { Odd: Failures.skip },
      ),
    ),
    fansOut: true,
  },
  {
    name: "retry in place in a branch, of many values in a record",
    flow: decoded.pipe(
      twice,
      Branch.when(
        ({ n }) => n > 4,
        (flow) =>
          flow.pipe(
            Failures.handle({ name: "visit" }, visit, { Odd: Failures.retry(Schedule.recurs(1), Failures.skip) }),
          ),
      ),
    ),
    fansOut: true,
  },
  {
    name: "retry topics, order free",
    flow: decoded.pipe(
      Failures.handle({ name: "visit" }, visit, { Odd: Failures.later(free, DeadLetter.to(Dlt)) }),
    ),
    aside,
  },
  {
    name: "retry topics, order kept",
    flow: decoded.pipe(
      Flow.filter(({ n }) => n !== 3),
      Failures.handle({ name: "visit" }, visit, { Odd: Failures.later(kept, DeadLetter.to(Dlt)) }),
      Deliver.to(Results),
    ),
    aside,
    foldsSome: true,
  },
  {
    name: "retry topics, order kept, of many values in a record",
    flow: decoded.pipe(
      Flow.flatMap((reading) => [reading, { ...reading, n: reading.n + 2 }]),
      Failures.handle({ name: "visit" }, (flow) => flow.pipe(Flow.filter(({ n }) => n !== 4), visit), {
        Odd: Failures.later(kept, DeadLetter.to(Dlt)),
      }),
    ),
    aside,
    fansOut: true,
  },
]

laws(cases)
