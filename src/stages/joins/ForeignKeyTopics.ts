/** What a foreign-key join writes into the topics between its tasks. */
import type { Duration } from "effect"
import { Schema } from "effect"
import { make, type Topic } from "../../Topic.ts"

/** Which change of a left row something is about: of two the one of the later event time, then of the higher number. */
export interface Version {
  /** Event time of the left row, in milliseconds since 1970. */
  readonly at: number
  /** Counts the changes of a key that have one event time. */
  readonly nth: number
}

export const isOlder = (a: Version, b: Version): boolean => a.at < b.at || a.at === b.at && a.nth < b.nth

/** A left row on its way to the right row that it refers to. */
export interface Subscription<out A> extends Version {
  readonly primaryKey: string
  /** Absent where the row refers to none. */
  readonly foreignKey?: string
  /** Absent where the row is deleted, or does not refer to this foreign key any more. */
  readonly row?: A
  /** The row refers to another foreign key from now on, and is answered from there. */
  readonly moved?: true
}

/** What a left row and its right row make, on its way back to the left row's key. */
export interface Response<out C> extends Version {
  readonly primaryKey: string
  /** Event time: the later one of both rows. */
  readonly time: number
  /** Absent where there is no result. */
  readonly row?: C
}

/** The two topics between the tasks of a foreign-key join. */
export interface ForeignKeyTopics<out A, out C> {
  /** Left rows by foreign key. It needs as many partitions as the right table's topic. */
  readonly subscriptions: Topic<Subscription<A>>
  /** Results by primary key. */
  readonly responses: Topic<Response<C>>
  /** The rows that are joined, and those of the result. */
  readonly left: Schema.Codec<A, unknown>
  readonly row: Schema.Codec<C, unknown>
}

/** What the topics take over from a contract. */
interface Like {
  readonly partitions: number
  readonly owner: string
  readonly maxMessageBytes: number
}

export interface TopicsOptions<A, C> {
  /** The topics are `<name>-by-foreign-key` and `<name>-by-primary-key`. */
  readonly name: string
  /** The left table's contract; where its rows were changed since, with the schema of the rows that are joined. */
  readonly left: Like & { readonly schema: Schema.Codec<A, unknown> }
  /** The right table's contract: left rows go to as many partitions as it has. */
  readonly right: Pick<Like, "partitions">
  /** The rows that the join makes. */
  readonly row: Schema.Codec<C, unknown>
  /** How long the topics keep records: longer than the program may be down. 7 days by default. */
  readonly retention?: Duration.Input
  /** The largest record batch the topics take, in bytes: as the left table's unless told. */
  readonly maxMessageBytes?: number
}

/**
 * Contracts for the topics between the tasks of a foreign-key join. They are not compacted: of the records of one key each
 * counts.
 */
export const foreignKeyTopics = <A, C>(options: TopicsOptions<A, C>): ForeignKeyTopics<A, C> => {
  const { name, left, right, row, retention = "7 days", maxMessageBytes = left.maxMessageBytes } = options
  const version = { primaryKey: Schema.String, at: Schema.Finite, nth: Schema.Int }
  const kept = { owner: left.owner, maxMessageBytes, retention }
  return {
    left: left.schema,
    row,
    subscriptions: make({
      ...kept,
      name: `${name}-by-foreign-key`,
      description: `${name}: left rows on their way to the rows that they refer to`,
      schema: Schema.Struct({
        ...version,
        foreignKey: Schema.optionalKey(Schema.String),
        row: Schema.optionalKey(left.schema),
        moved: Schema.optionalKey(Schema.Literal(true)),
      }) as Schema.Codec<Subscription<A>, unknown>,
      key: ["foreign key, or primary key of a row that refers to none", (of) => of.foreignKey ?? of.primaryKey],
      eventTime: ({ at }) => at,
      partitions: right.partitions,
    }),
    responses: make({
      ...kept,
      name: `${name}-by-primary-key`,
      description: `${name}: results on their way to the keys of the left rows`,
      schema: Schema.Struct({
        ...version,
        time: Schema.Finite,
        row: Schema.optionalKey(row),
      }) as Schema.Codec<Response<C>, unknown>,
      key: ["primary key", (of) => of.primaryKey],
      eventTime: ({ time }) => time,
      partitions: left.partitions,
    }),
  }
}
