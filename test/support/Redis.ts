/** Real Redis servers for integration tests, one per test. */
import { describe } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Ports from "./Ports.ts"
import * as RedisProcess from "./RedisProcess.ts"

/** A suite that needs Redis; left out where there is none. With CI=true the global setup has failed before. */
export const describeWithRedis = (name: string, run: () => void) =>
  RedisProcess.whyNoRedis() === undefined ? describe(name, run) : describe.skip(name, run)

export interface Server {
  readonly port: number
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
  readonly stop: Effect.Effect<void>
  /** Starts it again, empty, at the same port. */
  readonly start: Effect.Effect<void>
}

/** A server that is stopped with the scope. */
export const server = (password?: string): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* Effect.promise(Ports.free)
    let running: RedisProcess.Running | undefined
    const start = Effect.promise(async () => {
      running = await RedisProcess.start(port, password)
    })
    const stop = Effect.promise(async () => {
      await running?.stop()
      running = undefined
    })
    yield* Effect.acquireRelease(start, () => stop)
    return {
      port,
      start,
      stop,
      freeze: Effect.sync(() => running?.freeze()),
      thaw: Effect.sync(() => running?.thaw()),
    }
  })
