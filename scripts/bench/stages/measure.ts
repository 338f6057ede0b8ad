/** Measures one operator in a process of its own: `node --expose-gc measure.ts '{"name":"Flow.map",...}'` prints JSON. */
import { Effect } from "effect"
import { drive, pieces, source, Stopwatch } from "./drive.ts"
import { batches, Lefts, type Prepared, Rights, type Shape, span, undecoded } from "./input.ts"
import { type Operator, operators } from "./operators.ts"

export interface Order {
  readonly name: string
  readonly by: "flow" | "flow, logged" | "hand"
  readonly records: number
  readonly keys: number
}

export interface Measured {
  /** Per second of CPU. */
  readonly perSecond: number
  readonly results: number
  /** Changelog entries, and their bytes. */
  readonly entries: number
  readonly bytes: number
}

function* mapped(all: Generator<Prepared>, f: (batch: Prepared) => Prepared): Generator<Prepared> {
  for (const one of all) yield f(one)
}

const sides = (operator: Operator, shape: Shape, watch: Stopwatch) => {
  const { rightOneIn } = operator
  const rights = rightOneIn === undefined ? 0 : shape.records / rightOneIn
  const side = (topic: typeof Lefts, records: number, seed: number) => {
    const all = batches(topic, { ...shape, records }, seed)
    return pieces(operator.isRaw ? mapped(all, undecoded) : all, watch)
  }
  return { left: side(Lefts, shape.records - rights, 1), right: side(Rights, rights, 2) }
}

const byHand = (operator: Operator, shape: Shape): Measured => {
  const watch = new Stopwatch()
  const { left, right } = sides(operator, shape, watch)
  const loop = operator.loop(shape)
  watch.start()
  let results = 0
  let [l, r] = [left.next(), right.next()]
  while (!l.done || !r.done) {
    const isRight = l.done === true || !r.done && r.value.source.timestamps[0]! < l.value.source.timestamps[0]!
    results += loop(isRight ? r.value! : l.value!, isRight)
    if (isRight) r = right.next()
    else l = left.next()
  }
  watch.stop()
  return { perSecond: shape.records / watch.seconds, results, entries: 0, bytes: 0 }
}

const byFlow = async (operator: Operator, shape: Shape, logs: boolean): Promise<Measured> => {
  const watch = new Stopwatch()
  const { left, right } = sides(operator, shape, watch)
  const flow = operator.flow(source(Lefts, left), source(Rights, right), shape)
  const { results, outgoing, entries, bytes } = await Effect.runPromise(drive(flow, watch, { logs }))
  return { perSecond: shape.records / watch.seconds, results: Math.max(results, outgoing), entries, bytes }
}

const measure = ({ name, by }: Order, shape: Shape) => {
  const operator = operators.find((one) => one.name === name)!
  const whole = { ...shape, ...operator.rightOneIn !== undefined && { rightOneIn: operator.rightOneIn } }
  return by === "hand" ? byHand(operator, whole) : byFlow(operator, whole, by === "flow, logged")
}

const order = JSON.parse(process.argv[2]!) as Order
const { records, keys } = order
await measure(order, { records: Math.min(records, 300_000), keys: Math.min(keys, 10_000), span })
globalThis.gc?.()
console.log(JSON.stringify(await measure(order, { records, keys, span })))
