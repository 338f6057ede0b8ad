/** Measures one operator in a process of its own: `node --expose-gc measure.ts '{"name":"Flow.map",...}'` prints JSON. */
import { Effect, References } from "effect"
import { drive, type Driven, type Options, source, textOf } from "./drive.ts"
import { Lefts, type Prepared, Rights, type Shape, sides } from "./input.ts"
import type { Operator } from "./operator.ts"
import { operators } from "./operators/index.ts"
import { Stopwatch } from "./stopwatch.ts"

export interface Order extends Shape {
  readonly name: string
  /** `unlogged`: without what is done for the changelog. `compare`: whether both make the same. */
  readonly by: "flow" | "unlogged" | "hand" | "compare"
  readonly runs: number
}

export interface Measured {
  /** Records a second of CPU: the best run. */
  readonly perSecond: number
  /** Of the changelog, per record: entries, and their bytes. */
  readonly entries: number
  readonly bytes: number
}

const byHand = (operator: Operator, shape: Shape, see: (result: unknown) => void): number => {
  const watch = new Stopwatch()
  const { left, right } = sides(operator, shape, watch)
  const loop = operator.loop(shape)
  watch.start()
  let [l, r] = [left.next(), right.next()]
  while (!l.done || !r.done) {
    const isRight = l.done === true || !r.done && timeOf(r.value) < timeOf(l.value)
    for (const result of loop.take(isRight ? r.value! : l.value!, isRight)) see(result)
    if (isRight) r = right.next()
    else l = left.next()
  }
  for (const result of loop.end?.() ?? []) see(result)
  watch.stop()
  return watch.seconds
}

const timeOf = ({ source }: Prepared): number => source.timestamps[0]!

const byFlow = async (
  operator: Operator,
  shape: Shape,
  options: Options,
): Promise<Driven & { readonly seconds: number }> => {
  const watch = new Stopwatch()
  const { left, right } = sides(operator, shape, watch)
  const flow = operator.flow(source(Lefts, left), source(Rights, right), shape)
  const quiet = Effect.provideService(drive(flow, watch, options), References.MinimumLogLevel, "None")
  return { ...await Effect.runPromise(quiet), seconds: watch.seconds }
}

const nothing = () => {}

const measured = async (operator: Operator, { by, runs, records, keys }: Order): Promise<Measured> => {
  let best: Measured = { perSecond: 0, entries: 0, bytes: 0 }
  const run = async (shape: Shape): Promise<Measured> => {
    globalThis.gc!()
    if (by === "hand") return { perSecond: shape.records / byHand(operator, shape, nothing), entries: 0, bytes: 0 }
    const options = { logs: by === "flow", see: nothing, send: nothing }
    const { seconds, entries, bytes } = await byFlow(operator, shape, options)
    const of = shape.records
    return { perSecond: of / seconds, entries: entries / of, bytes: bytes / of }
  }
  await run({ records: Math.min(records, 200_000), keys })
  for (let i = 0; i < runs; i++) {
    const one = await run({ records, keys })
    if (one.perSecond > best.perSecond) best = one
  }
  return best
}

/** Throws where the operator does not make what the loop makes. */
const compare = async (operator: Operator, shape: Shape): Promise<{ readonly equal: number }> => {
  const { compared } = operator
  const made: Array<unknown> = []
  await byFlow(operator, shape, {
    logs: true,
    see: (value, key) => compared === "outgoing" || made.push(compared === "last" ? [textOf(key), value] : value),
    send: ({ key, value }) => compared === "outgoing" && made.push([key, value]),
  })
  const wanted: Array<unknown> = []
  byHand(operator, shape, (result) => wanted.push(result))
  const [ours, theirs] = [comparable(made, compared), comparable(wanted, compared)]
  const at = ours.findIndex((one, i) => one !== theirs[i])
  if (at === -1 && ours.length === theirs.length && ours.length > 0) return { equal: ours.length }
  const place = at === -1 ? Math.min(ours.length, theirs.length) : at
  throw new Error(
    `${operator.name}: ${ours.length} results, by hand ${theirs.length}; result ${place} is ${ours[place]}, by hand ` +
      theirs[place],
  )
}

const comparable = (results: ReadonlyArray<unknown>, compared: Operator["compared"]): ReadonlyArray<string> => {
  if (compared === "last") {
    const last = new Map(results as ReadonlyArray<readonly [string, unknown]>)
    return Array.from(last, (entry) => JSON.stringify(entry)).sort()
  }
  if (compared === "outgoing") {
    return (results as ReadonlyArray<ReadonlyArray<Uint8Array>>).map((sent) => sent.map(textOf).join(" "))
  }
  const texts = results.map((result) => JSON.stringify(result))
  return compared === "unordered" ? texts.sort() : texts
}

const order = JSON.parse(process.argv[2]!) as Order
const operator = operators.find(({ name }) => name === order.name)!
console.log(JSON.stringify(await (order.by === "compare" ? compare(operator, order) : measured(operator, order))))
