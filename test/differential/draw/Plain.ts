/** Steps that look at one value after the other, and those that leave some out. */
import { Result, Schema } from "effect"
import { Check, Deduplicate, Deliver, Flow, Sample } from "../../../src/index.ts"
import * as Plain from "../reference/Plain.ts"
import { type Draw, loose, Output, type Reading, remainder, seconds } from "./Steps.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { message: Schema.String }) {}

export const map: Draw = (dice) => {
  const by = dice.int(1, 5)
  return {
    name: `map +${by}`,
    uses: ["map"],
    stage: Flow.map((value) => ({ ...value, n: value.n + by })),
    reference: Plain.map(({ n }) => ({ n: n + by })),
  }
}

export const filter: Draw = (dice) => {
  const [name, is] = remainder(dice)
  const reason = dice.pick(["filtered", "unwanted"])
  return {
    name: `filter not ${name}`,
    uses: ["filter"],
    stage: Flow.filter((value) => !is(value), reason),
    reference: Plain.filter((value) => !is(value), reason),
  }
}

export const flatMap: Draw = (dice) => {
  const most = dice.int(2, 3)
  const copies = <A extends { readonly n: number }>(value: A) =>
    Array.from({ length: Math.abs(value.n) % (most + 1) }, (_, i) => ({ ...value, n: value.n + i }))
  return {
    name: `flatMap up to ${most}`,
    uses: ["flatMap"],
    stage: Flow.flatMap(copies),
    reference: Plain.flatMap(copies),
  }
}

export const check: Draw = (dice) => {
  const [name, is] = remainder(dice)
  return {
    name: `refuse ${name}`,
    uses: ["check"],
    stage: Check.with((value: Reading) =>
      is(value) ? Result.fail(new Refused({ message: "refused" })) : Result.succeed(value)
    ),
    reference: Plain.refuse("Refused", is),
  }
}

export const deliver: Draw = () => ({
  name: "deliver",
  uses: ["deliver"],
  stage: Deliver.to(Output),
  reference: Plain.send(Output.name, ({ id, n, at }) => JSON.stringify({ id, n, at })),
})

/**
 * Records arrive at multiples of 5 seconds, and bounded windows are 24 of such steps: an id may be remembered for a
 * twenty-fourth longer than the window, and then never is.
 */
export const deduplicate: Draw = (dice, name, { isUneven }) => {
  const window = isUneven ? 86_400 * seconds : dice.pick([86_400, 120]) * seconds
  const atMost = dice.pick([1_000_000, 1_000_000, 3])
  return {
    name: `deduplicate within ${window}, at most ${atMost}`,
    uses: ["deduplicate", ...window < 1e6 ? ["deduplicate, bounded"] : []],
    stage: loose(Deduplicate.by({ name, id: ({ id }: Reading) => id, window, atMost })),
    reference: Plain.deduplicate({ window, atMost }),
  }
}

/** What is kept of the records at offsets 0 to 59 of three topics, and of keys, at a rate of 0.6: it must never change. */
export const lots: { readonly records: Readonly<Record<string, string>>; readonly keys: string } = {
  records: {
    input: "111001100010100100111111101110110001111110010101000110001001",
    others: "111111111011101000010101011101010011100110101111011111110111",
    thirds: "110101001111111110100001011101111111000111101001011001011010",
  },
  keys: "11111111010111000100",
}

export const sample: Draw = (dice, _, { isUneven }) => {
  const rate = dice.pick([0, 0.6, 0.6, 0.6, 1])
  const lot = (kept: boolean) => rate === 1 || rate === 0.6 && kept
  if (isUneven || dice.int(0, 1) === 0) {
    return {
      name: `sample ${rate} by id`,
      uses: ["sample"],
      stage: loose(Sample.by({ rate, key: ({ n }: Reading) => String(Math.abs(n) % 20) })),
      reference: Plain.filter(({ n }) => lot(lots.keys[Math.abs(n) % 20] === "1"), "sampled"),
    }
  }
  return {
    name: `sample ${rate} by record`,
    uses: ["sample"],
    stage: loose(Sample.by({ rate })),
    reference: (stream) =>
      Plain.filter(({ row }) => {
        const [topic, offset] = stream.places[row]!.split("@")
        return lot(lots.records[topic!]![Number(offset)] === "1")
      }, "sampled")(stream),
  }
}
