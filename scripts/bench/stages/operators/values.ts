/** Stages of values: one after the other, nothing kept. */
import { Effect, Result, Schema } from "effect"
import {
  Branch,
  Check,
  Decode,
  Failures,
  Flow,
  type Flow as Flows,
  Mask,
  merge,
  Personal,
  Sample,
  Table,
} from "../../../../src/index.ts"
import type { Raw } from "../../../../src/Task.ts"
import { createHmac, createSecretKey } from "node:crypto"
import { Redacted } from "effect"
import { lot } from "../hand/limits.ts"
import { byTime, each, eachRaw } from "../hand/loop.ts"
import { Reading } from "../input.ts"
import type { Operator } from "../operator.ts"

export class Nine extends Schema.TaggedError<Nine>()("Nine", { message: Schema.String }) {}

export const changed = (reading: Reading) => ({ ...reading, twice: reading.n * 2 })
const Changed = Schema.Struct({ ...Reading.fields, twice: Schema.Int })
export const checked = (value: Reading) =>
  value.n >= 0 ? Result.succeed(changed(value)) : Result.fail(new Nine({ message: "less than nothing" }))
const isNoNine = ({ n }: Reading) => n !== 9
const isOdd = ({ kind }: Reading) => kind === "odd"

const Marked = Schema.Struct({ ...Reading.fields, user: Personal.mark(Schema.String, { category: "user" }) })
const secret = "0123456789abcdef0123456789abcdef"
const token = () => {
  const key = createSecretKey(Buffer.from(secret))
  return (text: string) => `k1.${createHmac("sha256", key).update(text).digest().subarray(0, 16).toString("base64url")}`
}

const decode = Schema.decodeUnknownResult(Reading)

export const values: ReadonlyArray<Operator> = [
  {
    name: "Decode.schema",
    isRaw: true,
    flow: (left) => (left as unknown as Flows.Flow<Raw<Reading>>).pipe(Decode.schema),
    loop: () =>
      eachRaw((bytes, out) => {
        const decoded = decode(JSON.parse(bytes.toString()))
        if (Result.isSuccess(decoded)) out.push(decoded.success)
      }),
  },
  {
    name: "Check.with, one in ten refused",
    flow: (left) =>
      left.pipe(
        Check.with((value) => isNoNine(value) ? Result.succeed(value) : Result.fail(new Nine({ message: "a nine" }))),
      ),
    loop: () => {
      const refused: Array<Nine> = []
      return each((value, out) => isNoNine(value) ? out.push(value) : refused.push(new Nine({ message: "a nine" })))
    },
  },
  {
    name: "Flow.map",
    flow: (left) => left.pipe(Flow.map(changed)),
    loop: () => each((value, out) => out.push(changed(value))),
  },
  {
    name: "Flow.filter, one in ten dropped",
    flow: (left) => left.pipe(Flow.filter(isNoNine)),
    loop: () => each((value, out) => isNoNine(value) && out.push(value)),
  },
  {
    name: "Flow.flatMap, two of one",
    flow: (left) => left.pipe(Flow.flatMap((value) => [value, changed(value)])),
    loop: () => each((value, out) => out.push(value, changed(value))),
  },
  {
    name: "Flow.tap",
    flow: (left) => {
      let sum = 0
      return left.pipe(Flow.tap(({ n }) => {
        sum += n
      }))
    },
    loop: () => {
      let sum = 0
      return each((value, out) => {
        sum += value.n
        out.push(value)
      })
    },
  },
  {
    name: "Flow.effect, one per value",
    flow: (left) => left.pipe(Flow.effect((value) => Effect.succeed(changed(value)))),
    loop: () => each((value, out) => out.push(changed(value))),
  },
  {
    name: "Flow.effect, 8 at a time",
    flow: (left) => left.pipe(Flow.effect((value) => Effect.succeed(changed(value)), { concurrency: 8 })),
    loop: () => each((value, out) => out.push(changed(value))),
  },
  {
    name: "Flow.effectAll, 100 values each",
    flow: (left) =>
      left.pipe(
        Flow.effectAll((values) => Effect.succeed(values.map((value) => Result.succeed(changed(value)))), {
          size: 100,
        }),
      ),
    loop: () => each((value, out) => out.push(changed(value))),
  },
  {
    name: "Branch.when, half of all",
    flow: (left) => left.pipe(Branch.when(isOdd, (flow) => flow.pipe(Flow.map(changed)))),
    loop: () => each((value, out) => out.push(isOdd(value) ? changed(value) : value)),
  },
  {
    name: "Branch.match, two branches",
    flow: (left) =>
      left.pipe(
        Branch.matchBy(({ kind }) => kind, {
          odd: (flow) => flow.pipe(Flow.map(changed)),
          even: (flow) => flow.pipe(Flow.map(({ id }) => id)),
        }),
      ),
    loop: () => each((value, out) => out.push(isOdd(value) ? changed(value) : value.id)),
  },
  {
    name: "merge of two branches",
    flow: (left) => left.pipe(Flow.filter(isOdd), merge(left.pipe(Flow.filter((value) => !isOdd(value))))),
    loop: () => each((value, out) => out.push(value)),
  },
  {
    name: "merge of two topics",
    rightOneIn: 2,
    flow: (left, right) => left.pipe(merge(right)),
    loop: () =>
      byTime("left", { left: (value, _, __, out) => out.push(value), right: (value, _, __, out) => out.push(value) }),
  },
  {
    name: "Sample.by key, one in ten",
    flow: (left) => left.pipe(Sample.by({ rate: 0.1, key: ({ id }) => id })),
    loop: () => each((value, out) => lot(value.id) < 0.1 * 2 ** 32 && out.push(value)),
  },
  {
    name: "Mask.by, redacted",
    flow: (left) => left.pipe(Mask.by(Marked)),
    loop: () => each((value, out) => out.push({ ...value, user: "***" })),
  },
  {
    name: "Mask.by, tokens",
    thousands: 100,
    flow: (left) =>
      left.pipe(
        Mask.by(Marked, { key: { id: "k1", secret: Redacted.make(secret) }, categories: { user: Mask.tokenise() } }),
      ),
    loop: () => {
      const tokenOf = token()
      return each((value, out) => out.push({ ...value, user: tokenOf(value.user) }))
    },
  },
  {
    name: "Table.of, Table.map",
    flow: (left) => left.pipe(Table.of(Reading), Table.map(Changed, changed)),
    loop: () => each((value, out) => out.push({ row: changed(value) })),
  },
  {
    name: "Failures.handle, none fails",
    flow: (left) =>
      left.pipe(
        Failures.handle({ name: "handled" }, (flow) => flow.pipe(Check.with(checked)), { Nine: Failures.skip }),
      ),
    loop: () => each((value, out) => out.push(changed(value))),
  },
]
