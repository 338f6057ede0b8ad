/**
 * Pipelines under test: run as programs of their own on Kafka in memory and a clock that only the test moves. What they
 * run on is what runs them in production, but for the brokers and the clock: groups rebalance, transactions commit, stores
 * are restored from their changelogs. Nothing sleeps, no broker is needed, and a run replays from its seed.
 */
import { Effect } from "effect"
import * as Faults from "../kafka/Faults.ts"
import type { PipelineError } from "../Task.ts"
import type { Driver, Left, Options, Pipelines } from "./Controls.ts"
import { Fed, type Placed } from "./Feeding.ts"
import { runWith } from "./Run.ts"

export type { Driver, Member, Options } from "./Controls.ts"
export type { Counts } from "./Counts.ts"
export { DriverError } from "./DriverError.ts"
export type { Bytes, Fed, Placed } from "./Feeding.ts"
export type { Call } from "./Network.ts"
export type { Line } from "./Journal.ts"
export type { Letter, Read, ReadBytes } from "./Reading.ts"
export type { Entry } from "./Stores.ts"

/** A value with its key, Kafka timestamp, partition or headers, where they are not as the contract says. */
export const record = <A>(options: Placed & { readonly value: A }): Fed<A> => new Fed(options)

/** The program dies before the call, which is not carried out. */
export const crashBefore: Faults.Fault = Faults.crash(Effect.void)

/** The program dies after the call was carried out, before it hears the answer. */
export const crashAfter: Faults.Fault = Faults.crashAfter(Effect.void)

/**
 * Runs a test: creates the topics, starts the pipelines, and answers what the test answers. When it is over everything
 * ends with it.
 */
export const run = <const P extends Pipelines, A, E, R, S = never, E2 = never>(
  options: Options<P, S, E2>,
  test: (driver: Driver) => Effect.Effect<A, E, R>,
): Effect.Effect<A, E | E2 | PipelineError, Left<P, R, S>> => runWith(options, {}, test)
