/** Connections to Postgres, and what can be said of their failures. */
import { Duration, Effect, Random, Redacted, Schedule, type Scope, Semaphore } from "effect"
import postgres from "postgres"
import { spread } from "../Jitter.ts"
import { PipelineError } from "../Task.ts"
import { type ArrayType, arrayTypes, teach } from "./PostgresArrays.ts"

/** What runs statements: on a connection, or in the transaction at hand. */
export type Sql = postgres.ISql

export interface Options {
  readonly url: Redacted.Redacted<string>
  readonly connections: number
  /**
   * How long a transaction may stand idle, and how long a lock is waited for: both below the group's session timeout, so
   * that a frozen writer cannot hold the rows of tasks that others have taken over.
   */
  readonly lockTimeout: Duration.Input
}

/** Runs a query, with failures as `PipelineError` of reason `Sink`. */
export type Query = <A>(run: (sql: Sql) => PromiseLike<A>) => Effect.Effect<A, PipelineError>

export interface Pool {
  readonly query: Query
  /** Runs queries in one transaction: all of them or none. */
  readonly transaction: <A, E>(run: (query: Query) => Effect.Effect<A, E>) => Effect.Effect<A, E | PipelineError>
}

interface Informed extends Options {
  readonly types: ReadonlyArray<ArrayType>
  /** From 0 to 1, drawn anew for every wait: processes that lost one server do not all come back at one moment. */
  lot(): number
}

/**
 * One connection at a time. The driver could connect again by itself, but takes remains of what broke with it: rows of a
 * former answer, a former failure, bytes that were never sent. So a connection that broke takes its driver with it.
 */
class Connection {
  readonly #options: Informed
  #driver: postgres.Sql | undefined
  #isEnded = false

  constructor(options: Informed) {
    this.#options = options
  }

  get sql(): postgres.Sql {
    return this.#driver ??= driverOf(this.#options, (sql) => {
      if (this.is(sql)) this.giveUp()
    })
  }

  /** Whether nothing broke since this was its driver. */
  is(sql: postgres.Sql): boolean {
    return this.#driver === sql
  }

  /** The server ends whatever it is about on the old connection, and rolls it back. */
  giveUp(): void {
    if (this.#isEnded) return
    this.#driver?.end({ timeout: 0 }).catch(() => {})
    this.#driver = undefined
  }

  /** For good: its driver refuses whatever comes after. */
  readonly end = Effect.promise(() => {
    this.#isEnded = true
    return this.sql.end({ timeout: 2 })
  })
}

/** How long a database may be away when a program starts. */
export const patience = Schedule.spaced("250 millis").pipe(spread, Schedule.upTo({ duration: "15 seconds" }))

/**
 * A pool of single connections, each used by one caller at a time. The driver's own pool sends what follows a break of a
 * connection over the next one, outside of the transaction, or over the closed socket: here a transaction ends with its
 * connection.
 */
export const make = Effect.fnUntraced(function* (
  options: Options,
): Effect.fn.Return<Pool, PipelineError, Scope.Scope> {
  const random = yield* Random.Random
  const lot = () => random.nextDoubleUnsafe()
  const types = yield* Effect.scoped(
    Effect.flatMap(connect({ ...options, types: [], lot }), ({ sql }) => asked(queryOn(sql)(arrayTypes))),
  )
  const informed: Informed = { ...options, types, lot }
  const idle: Array<Connection> = []
  for (let i = 0; i < options.connections; i++) idle.push(yield* connect(informed))
  const places = yield* Semaphore.make(options.connections)

  const use = <A, E>(body: (connection: Connection) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Semaphore.withPermits(places, 1)(
      Effect.acquireUseRelease(
        Effect.sync(() => idle.pop()!),
        body,
        (connection) => Effect.sync(() => void idle.push(connection)),
      ),
    )
  return {
    query: (run) => use(({ sql }) => queryOn(sql)(run)),
    transaction: (run) => use((connection) => transactionOn(options, connection, run)),
  }
})

const asked = <A>(ask: Effect.Effect<A, PipelineError>): Effect.Effect<A, PipelineError> =>
  Effect.catchIf(
    ask,
    (error) => error.retriable,
    (error) =>
      Effect.andThen(
        Effect.logWarning(`${error.message}; trying again for 15 seconds`),
        Effect.retry(ask, { schedule: patience, while: (error) => error.retriable }),
      ),
  )

const connect = (options: Informed): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.acquireRelease(Effect.sync(() => new Connection(options)), (connection) => connection.end)

const driverOf = (options: Informed, broken: (sql: postgres.Sql) => void): postgres.Sql => {
  const timeout = Duration.toMillis(options.lockTimeout)
  const sql = postgres(Redacted.value(options.url), {
    max: 1,
    // A connection that the driver renews between two statements of a transaction would go on outside of it, unnoticed.
    max_lifetime: null,
    fetch_types: false,
    connect_timeout: 10,
    backoff: (attempt) => Math.min(1, 3 ** attempt / 100) * (1 + options.lot()) / 2,
    onnotice: () => {},
    onclose: () => broken(sql),
    connection: {
      application_name: "millrace",
      idle_in_transaction_session_timeout: timeout,
      lock_timeout: timeout,
    },
  })
  teach(sql, options.types)
  return sql
}

const queryOn = (sql: Sql): Query => (run) => Effect.tryPromise({ try: async () => await run(sql), catch: failure })

/**
 * A transaction that is interrupted, from the moment its begin is sent, or fails is rolled back before the connection is
 * used again, or the connection is given up; one whose connection broke has been rolled back by the server.
 */
const transactionOn = <A, E>(
  options: Options,
  connection: Connection,
  run: (query: Query) => Effect.Effect<A, E>,
): Effect.Effect<A, E | PipelineError> => {
  const { sql } = connection
  const query: Query = (run) => Effect.suspend(() => connection.is(sql) ? queryOn(sql)(run) : Effect.fail(brokenWithin))
  const rollback = Effect.timeoutOption(Effect.exit(query((sql) => sql`rollback`)), options.lockTimeout).pipe(
    Effect.map((answer) => {
      if (answer._tag === "None") connection.giveUp()
    }),
  )
  const commit = Effect.flatMap(
    query((sql) => sql`commit`),
    // The answer in a transaction with a refused statement, whoever has ignored the refusal.
    ({ command }) => command === "ROLLBACK" ? Effect.fail(refusedWithin) : Effect.void,
  )
  return Effect.uninterruptibleMask((restore) =>
    Effect.andThen(
      Effect.onInterrupt(restore(query((sql) => sql`begin`)), () => rollback),
      Effect.onError(restore(Effect.tap(run(query), commit)), () => rollback),
    )
  )
}

const brokenWithin = new PipelineError({
  reason: "Sink",
  retriable: true,
  message: "the connection to Postgres broke within a transaction, which is undone",
})

const refusedWithin = new PipelineError({
  reason: "Sink",
  retriable: false,
  message: "a statement was refused within a transaction and its failure was ignored: the transaction is undone",
})

/** SQLSTATE classes and codes that pass by themselves: connection, resources, shutdown, serialisation and lock trouble. */
const passing = /^(08|53|57|58|40|55P03|25P0[234])/

/** Classes whose messages can repeat what was to be written: data exceptions and violated constraints. */
const telling = /^2[123]/

/** Whether a statement was refused because of values that it was given or has met (class 22, data exceptions). */
export const refusesValues = ({ message }: PipelineError): boolean => message.startsWith(`${refused} (SQLSTATE 22`)

const refused = "Postgres refused a statement"

/** Credentials that are not accepted, and a database that does not exist. */
const connecting = /^(28|3D)/

/** Neither the message nor the cause repeats rows: they go into logs. */
const failure = (cause: unknown): PipelineError => {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown"
  if (!(cause instanceof postgres.PostgresError)) {
    const { address, port } = Object.assign({ address: undefined, port: undefined }, cause)
    const where = address === undefined ? "" : ` at ${address}${port === undefined ? "" : `:${port}`}`
    return new PipelineError({
      reason: "Sink",
      retriable: true,
      message:
        `Postgres${where} cannot be reached or closed the connection (${code}); check its address and that it runs`,
      cause,
    })
  }
  if (connecting.test(code)) {
    return new PipelineError({
      reason: "Sink",
      retriable: false,
      message: `Postgres refused the connection (SQLSTATE ${code}): ${cause.message}; ` +
        "check the user, the password and the database in its address",
    })
  }
  const { message, table_name: table, column_name: column, constraint_name: constraint } = cause
  const where = [["table", table], ["column", column], ["constraint", constraint]].flatMap(([what, name]) =>
    name ? [`${what} ${name}`] : []
  )
  return new PipelineError({
    reason: "Sink",
    retriable: passing.test(code),
    message: [
      `${refused} (SQLSTATE ${code})`,
      ...telling.test(code) ? [] : [message],
      ...where.length === 0 ? [] : [where.join(", ")],
    ].join(": "),
  })
}
