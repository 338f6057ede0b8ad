/** Stages that let some values go on and others not, and those that ask elsewhere. */
import { Effect, Scope } from "effect"
import { Check, CircuitBreaker, Deduplicate, Lookup, Shed, Throttle } from "../../../../src/index.ts"
import { Circuit, recent, tokens } from "../hand/limits.ts"
import { each, textOf } from "../hand/loop.ts"
import type { Operator } from "../operator.ts"
import { changed, checked } from "./values.ts"

const circuit = { failures: 5, within: "10 seconds", wait: "1 second", whileOpen: "fail" } as const

const century = 36_500 * 86_400_000

/** Rows by key, as a lookup answers them and as the loop finds them. */
const rowOf = (key: string) => ({ key, size: key.length })
const rows = (keys: number) => {
  const all = new Map<string, ReturnType<typeof rowOf>>()
  for (let key = 0; key < keys; key++) all.set(`user-${key}`, rowOf(`user-${key}`))
  return all
}

type Opened = Lookup.Lookup<ReturnType<typeof rowOf>>
const opened = new Map<number, Opened>()

/** A lookup that knows all keys, opened once in a process. */
const warm = (keys: number): Effect.Effect<Opened> =>
  Effect.gen(function* () {
    const known = opened.get(keys)
    if (known !== undefined) return known
    const lookup = yield* Lookup.make({
      name: "rows",
      getAll: (asked) => Effect.succeed(new Map(asked.map((key) => [key, rowOf(key)]))),
      batchSize: 1_000,
      cache: { size: keys, ttl: "1 day" },
    }).pipe(Scope.provide(yield* Scope.make()))
    yield* lookup.getAll([...rows(keys).keys()], (_, cause) => cause)
    opened.set(keys, lookup)
    return lookup
  })

export const limits: ReadonlyArray<Operator> = [
  {
    name: "Throttle.by task, none too fast",
    flow: (left) => left.pipe(Throttle.by({ perSecond: 1e9, excess: "drop" })),
    loop: () => {
      const pace = tokens(1e9)
      return each((value, out) => pace("", performance.now()) && out.push(value))
    },
  },
  {
    name: "Throttle.by key, none too fast",
    isKeyed: true,
    flow: (left, _, { keys }) =>
      left.pipe(Throttle.by({ perSecond: 1e6, key: (_, record) => record.key!, excess: "drop", atMostKeys: keys })),
    loop: () => {
      const pace = tokens(1e6)
      return each((value, out, key) => pace(textOf(key), performance.now()) && out.push(value))
    },
  },
  {
    name: "Throttle.by key, half of them remembered",
    isKeyed: true,
    flow: (left, _, { keys }) =>
      left.pipe(Throttle.by({ perSecond: 1e6, key: ({ user }) => user, excess: "drop", atMostKeys: keys / 2 })),
    loop: () => {
      const pace = tokens(1e6)
      return each((value, out) => pace(value.user, performance.now()) && out.push(value))
    },
  },
  {
    name: "Shed.by, none left out",
    flow: (left) => left.pipe(Shed.by({ above: century })),
    loop: () => each((value, out, _, at) => Date.now() - at < century && out.push(value)),
  },
  {
    name: "CircuitBreaker.effect, closed",
    flow: (left) =>
      left.pipe(CircuitBreaker.effect((value) => Effect.succeed(changed(value)), { name: "c", ...circuit })),
    loop: () => {
      const circuit = new Circuit()
      return each((value, out) => circuit.isClosed(performance.now()) && out.push(changed(value)))
    },
  },
  {
    name: "CircuitBreaker.around, closed",
    flow: (left) =>
      left.pipe(
        CircuitBreaker.around((flow) => flow.pipe(Check.with(checked)), { name: "c", counts: ["Nine"], ...circuit }),
      ),
    loop: () => {
      const circuit = new Circuit()
      return each((value, out) => circuit.isClosed(performance.now()) && out.push(changed(value)))
    },
  },
  {
    name: "Deduplicate.by id, one in ten repeated",
    isKeyed: true,
    flow: (left, _, { keys }) => left.pipe(Deduplicate.by({ name: "seen", id: ({ id }) => id, atMost: keys })),
    loop: ({ keys }) => {
      const isNew = recent(keys)
      return each((value, out) => isNew(value.id) && out.push(value))
    },
  },
  {
    name: "Lookup.by, all in the cache",
    isKeyed: true,
    flow: (left, _, { keys }) =>
      left.pipe(
        Lookup.by(warm(keys), {
          key: (_, record) => record.key ?? undefined,
          join: (value, found) => ({ ...value, row: found._tag === "Found" ? found.value : undefined }),
        }),
      ),
    loop: ({ keys }) => {
      const known = rows(keys)
      return each((value, out, key) => out.push({ ...value, row: known.get(textOf(key)) }))
    },
  },
]
