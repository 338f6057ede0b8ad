/**
 * A Postgres in memory for the simulation: the pool that the Postgres guarantee works with, on the clock of the run. Each
 * program has connections of its own, which break, freeze and die with it.
 */
import { type Clock, Context, Duration, Effect } from "effect"
import { Postgres, type Task } from "../../../src/index.ts"
import type { Statement as Kind } from "../Decision.ts"
import type { Program } from "../Program.ts"
import type { Database } from "../World.ts"
import { carryOut, type Statement } from "./Statements.ts"
import { broken, Storage, type Transaction } from "./Storage.ts"

export type Pool = Context.Service.Shape<typeof Postgres.Postgres>

/** Below the programs' session: a frozen writer holds its locks no longer. */
const timeout = 700

/** What comes of a request after it was carried out, where its answer does not arrive. */
type Lost = Effect.Effect<never, Task.PipelineError>

/** Stands between a client and the database: fails where a request does not arrive, and else answers how it ends. */
type Meet = (kind: Kind) => Effect.Effect<Lost | undefined, Task.PipelineError>

const calm: Meet = () => Effect.succeed(undefined)

/** What a pool is asked with: statements are only told, not sent. */
const tell = Object.assign(
  (strings: ReadonlyArray<string>, ...values: ReadonlyArray<unknown>): Statement => ({
    text: plain(strings.join("?")),
    values,
  }),
  { unsafe: (text: string, values: ReadonlyArray<unknown> = []): Statement => ({ text: plain(text), values }) },
)

const plain = (text: string) => text.replace(/\s+/g, " ").trim()

export const poolOf = (storage: Storage, isGone: () => boolean = () => false, meet: Meet = calm): Pool => {
  const met = <A>(kind: Kind, run: Effect.Effect<A, Task.PipelineError>): Effect.Effect<A, Task.PipelineError> =>
    Effect.flatMap(meet(kind), (lost) => lost === undefined ? run : Effect.andThen(Effect.exit(run), lost))
  const queryIn = (tx: Transaction): Postgres.Query => (run) =>
    met("Query", Effect.suspend(() => tx.within(carryOut(storage, tx, run(tell as never) as never)))) as never
  const transaction: Pool["transaction"] = (run) =>
    Effect.flatMap(met("Begin", Effect.sync(() => storage.begin(isGone))), (tx) => {
      const commit = met("Commit", Effect.suspend(() => tx.within(Effect.sync(() => tx.commit()))))
      return Effect.tap(run(queryIn(tx)), commit).pipe(Effect.onExit(() => Effect.sync(() => tx.rollback())))
    })
  return {
    transaction,
    query: (run) =>
      Effect.suspend(() => {
        const tx = storage.begin(isGone)
        return Effect.tap(queryIn(tx)(run), Effect.sync(() => tx.commit())).pipe(
          Effect.onExit(() => Effect.sync(() => tx.rollback())),
        )
      }),
  }
}

/** What happens to a program's requests, as it is planned. */
const meeting = (program: Program, clock: Clock.Clock): Meet => {
  const counts: Record<Kind, number> = { Begin: 0, Query: 0, Commit: 0 }
  const sleep = (millis: number) => clock.sleep(Duration.millis(millis))
  return (kind) =>
    Effect.gen(function* () {
      if (program.isDead) return yield* Effect.never
      yield* program.clock.thawed
      program.statements.push({ call: kind, n: ++counts[kind] })
      const fault = program.planned(kind, counts[kind])
      switch (fault?.kind) {
        case undefined:
          return undefined
        case "crash before":
          program.count("crash before a call")
          return yield* Effect.andThen(program.die, Effect.never)
        case "crash after":
          program.count("crash after a call")
          return Effect.andThen(program.die, Effect.never)
        case "answer lost":
          program.count(kind === "Commit" ? "database commit's answer lost" : "database connection broken")
          return Effect.fail(broken)
        case "frozen":
          program.count("database writer frozen")
          program.freeze(fault.millis)
          yield* program.clock.thawed
          return undefined
        case "delay":
          program.count("message delayed")
          yield* sleep(fault.millis)
          return undefined
        default:
          program.count("database connection broken")
          return yield* broken
      }
    })
}

/** `around` may plant a defect. */
export const make = (clock: Clock.Clock, around: (pool: Pool) => Pool = (pool) => pool): Database => {
  const storage = new Storage(clock, timeout)
  return {
    services: (program) => {
      const pool = around(poolOf(storage, () => program.isDead, meeting(program, clock)))
      return Context.make(Postgres.Postgres, pool) as Context.Context<never>
    },
    table: (name) => [...storage.rows(name).values()],
    written: (name) => storage.written(name),
  }
}
