/** Joins must compile without an annotation, with the types that they must have. */
import { Schema } from "effect"
import {
  DeadLetter,
  Decode,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Join,
  Pipeline,
  Table,
  Topic,
} from "../../src/index.ts"
import { Dlt } from "./support.ts"

type Check<T extends true> = T
type Eq<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false
type Value<T> = T extends Flow.Flow<infer A, unknown, unknown, unknown> ? A : never
type Tags<T> = T extends Flow.Flow<unknown, infer F, unknown, unknown>
  ? F extends { readonly _tag: infer K } ? K : never
  : never

const common = { description: "", owner: "", partitions: 1 }
export const Order = Schema.Struct({ id: Schema.String, user: Schema.String, cents: Schema.Int })
export const Orders = Topic.make({ ...common, name: "orders", schema: Order })
export const Users = Topic.make({ ...common, name: "users", schema: Schema.Struct({ name: Schema.String }) })
const Named = Topic.make({ ...common, name: "named", schema: Schema.String })

export const orders = Ingest.topic(Orders).pipe(Decode.schema)
export const users = Table.topic(Users)
export type TableTags = Check<Eq<Tags<typeof users>, "DecodeError">>

export const inner = orders.pipe(Join.table(users, { name: "a", join: (order, user) => `${order.id} ${user.name}` }))
export type Inner = Check<Eq<Value<typeof inner>, string>>
export type InnerTags = Check<Eq<Tags<typeof inner>, "DecodeError" | "Keyless">>

export const left = orders.pipe(
  Join.table(users, { name: "a", kind: "left", join: ({ id }, user) => ({ id, name: user?.name }) }),
)
export type Left = Check<Eq<Value<typeof left>, { id: string; name: string | undefined }>>

export const asOf = orders.pipe(
  Join.asOf(users, { name: "a", history: "1 hour", join: (order, user) => order.cents + user.name.length }),
)
export type AsOfTags = Check<Eq<Tags<typeof asOf>, "DecodeError" | "Keyless" | "Late">>

export const waiting = orders.pipe(
  Join.asOf(users, {
    name: "a",
    history: "1 hour",
    grace: "1 minute",
    value: Order,
    join: (order, user) => [order, user],
  }),
)
export type WaitingTags = Check<Eq<Tags<typeof waiting>, "DecodeError" | "Keyless" | "Late">>

export const outer = Table.topic(Orders).pipe(
  Join.tables(users, {
    name: "a",
    kind: "outer",
    row: Schema.String,
    join: (order, user) => `${order?.id} ${user?.name}`,
  }),
)
export type Outer = Check<Eq<Value<typeof outer>, Table.Change<string>>>

const via = Join.foreignKeyTopics({ name: "a", left: Orders, right: Users, row: Schema.String })
export const referring = Table.topic(Orders).pipe(
  Join.foreignKey(users, {
    name: "a",
    via,
    foreignKey: (order) => order.user,
    join: (order, user) => `${order.id} ${user.name}`,
    failed: DeadLetter.to(Dlt),
  }),
)
export type ReferringTags = Check<Eq<Tags<typeof referring>, "DecodeError">>

export const pipeline = Pipeline.make(
  "joins",
  referring.pipe(
    Table.filter((row) => row.length > 1),
    Table.map(Schema.String, (row) => row.slice(1)),
    Deliver.table(Named),
    Failures.routeAll(DeadLetter.to(Dlt)),
  ),
  Guarantee.exactlyOnce(),
)
