/** Stages that write to topics, and deciders. */
import { Result, Schema } from "effect"
import { Buffer } from "node:buffer"
import { Decider, Deliver, Failures, repartition, Topic } from "../../../../src/index.ts"
import { each, type Loop, textOf } from "../hand/loop.ts"
import { Reading } from "../input.ts"
import type { Operator } from "../operator.ts"
import { Nine } from "./values.ts"

const common = { description: "Benchmark", owner: "bench", partitions: 1, schema: Reading }
const Out = Topic.make({ ...common, name: "out", key: ["id", ({ id }) => id] })
const Via = Topic.make({ ...common, name: "via", key: ["id", ({ id }) => id], eventTime: ({ at }) => at })

const encode = Schema.encodeUnknownResult(Reading)
const decode = Schema.decodeUnknownResult(Reading)

const Added = Schema.Struct({ n: Schema.Int })
const decider = Decider.make({
  name: "sums",
  state: Schema.Struct({ sum: Schema.Int }),
  event: Added,
  rejection: Nine,
  initial: { sum: 0 },
  aggregate: ({ user }: Reading) => user,
  commandId: ({ id }: Reading) => id,
  decide: (_, { n }) => n === 8 ? Result.fail(new Nine({ message: "an eight" })) : Result.succeed([{ n }]),
  evolve: ({ sum }, { n }) => ({ sum: sum + n }),
})

interface Sum {
  sum: number
  version: number
  readonly results: Map<string, Result.Result<ReadonlyArray<Decider.Recorded<typeof Added.Type>>, Nine>>
}

/** Sums by key, and what was answered to the last hundred commands of each. */
const sums = (): Loop => {
  const sums = new Map<string, Sum>()
  return each((command, out, bytes) => {
    const key = textOf(bytes)
    let of = sums.get(key)
    if (of === undefined) sums.set(key, of = { sum: 0, version: 0, results: new Map() })
    const { id: commandId, n } = command
    const known = of.results.get(commandId)
    let result = known
    if (result === undefined) {
      if (n === 8) result = Result.fail(new Nine({ message: "an eight" }))
      else {
        of.sum += n
        result = Result.succeed([{ key, version: ++of.version, commandId, event: { n } }])
      }
      of.results.set(commandId, result)
      if (of.results.size > 100) of.results.delete(of.results.keys().next().value!)
    }
    if (Result.isFailure(result)) return
    out.push({
      key,
      command,
      commandId,
      outcome: known === undefined ? "accepted" : "repeated",
      events: result.success,
    })
  })
}

export const topics: ReadonlyArray<Operator> = [
  {
    name: "Deliver.to",
    compared: "outgoing",
    flow: (left) => left.pipe(Deliver.to(Out)),
    loop: () =>
      each((value, out) => {
        const encoded = encode(value)
        if (Result.isFailure(encoded)) return
        out.push([Buffer.from(value.id), Buffer.from(JSON.stringify(encoded.success))])
      }),
  },
  {
    name: "repartition, written and read",
    flow: (left) => left.pipe(repartition(Via, { undeliverable: Failures.skip })),
    loop: () =>
      each((value, out) => {
        const encoded = encode(value)
        if (Result.isFailure(encoded)) return
        const bytes = Buffer.from(JSON.stringify(encoded.success))
        const decoded = decode(JSON.parse(bytes.toString()))
        if (Result.isSuccess(decoded)) out.push(decoded.success)
      }),
  },
  {
    name: "Decider.stage",
    isKeyed: true,
    thousands: 100,
    flow: (left) => left.pipe(Decider.stage(decider)),
    loop: sums,
  },
]
