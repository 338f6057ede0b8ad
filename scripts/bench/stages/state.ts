/** What a counter per key and window takes in memory: `node --expose-gc state.ts '{"records":...,"keys":...}'` prints JSON. */
import { Effect } from "effect"
import { Aggregate, Flow, Window } from "../../../src/index.ts"
import { type Drivable, drive, source } from "./drive.ts"
import { Lefts, type Prepared, type Shape, sides } from "./input.ts"
import type { Readings } from "./operator.ts"
import { Stopwatch } from "./stopwatch.ts"

export interface State {
  readonly entries: number
  readonly bytesPerEntry: number
}

const used = (): number => {
  // What one collection finds, memory of buffers above all, is free only with the next.
  for (let i = 0; i < 3; i++) globalThis.gc!()
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

function* ending(all: Generator<Prepared>, f: () => void): Generator<Prepared> {
  yield* all
  f()
}

/** Bytes in use when the input is over, while the stage is still at work; and its entries. */
const after = async (make: (left: Readings) => Drivable, shape: Shape) => {
  const before = used()
  let bytes = 0
  const { left } = sides({}, shape, new Stopwatch())
  const flow = make(source(Lefts, ending(left, () => bytes = used() - before)))
  const quiet = { logs: true, see: () => {}, send: () => {} }
  const { stores } = await Effect.runPromise(drive(flow, new Stopwatch(), quiet))
  return { bytes, entries: stores.reduce((sum, { size }) => sum + size, 0) }
}

const shape = JSON.parse(process.argv[2]!) as Shape
/** No window closes before the input is over. */
const window = Window.tumbling({ size: "1 minute", grace: "1 hour" })
const count = (left: Readings): Drivable => left.pipe(Aggregate.count({ name: "counts", window }))
const nothing = (left: Readings): Drivable => left.pipe(Flow.tap(() => {}))
// What compiled code and caches take is there before.
await after(count, { records: 100_000, keys: 1_000 })
const others = Math.min((await after(nothing, shape)).bytes, (await after(nothing, shape)).bytes)
const { bytes, entries } = await after(count, shape)
console.log(JSON.stringify({ entries, bytesPerEntry: (bytes - others) / entries } satisfies State))
