/**
 * Membership in a consumer group by the classic protocol: join, sync, heartbeat, leave. Before every join the owner
 * finishes and commits what it has at hand, while heartbeats go on: the revoke barrier.
 */
import { Duration, Effect, Fiber, Option, type Scope } from "effect"
import { pause } from "../Jitter.ts"
import { elapsed } from "../Pace.ts"
import { within } from "../Within.ts"
import { PipelineError } from "../Task.ts"
import { Cluster, type GroupIdentity, KafkaError, retriable } from "./Cluster.ts"
import * as ConsumerProtocol from "./ConsumerProtocol.ts"

export interface Options {
  readonly group: string
  readonly topics: ReadonlyArray<string>
  /**
   * Makes a static member, which does not leave at the end: who comes back under this id within the session has the same
   * work again, and nobody else notices.
   */
  readonly instanceId?: string | undefined
  /** After this long without a heartbeat the brokers give our work to others. At least 6 seconds on most clusters. */
  readonly sessionTimeout: Duration.Input
  readonly heartbeatInterval: Duration.Input
  /** How long a rebalance waits for members that are still finishing; work at a revoke must end within it. */
  readonly rebalanceTimeout: Duration.Input
}

export interface Member {
  readonly memberId: string
  readonly userData: Uint8Array
}

export interface Handlers<E, R> {
  /** What this member tells the one that assigns. */
  readonly userData: Effect.Effect<Uint8Array>
  /** Called on the group's leader: everybody's work. Members that are left out get none. */
  assign(
    members: ReadonlyArray<Member>,
  ): Effect.Effect<ReadonlyMap<string, ConsumerProtocol.Assignment>, E, R>
  /** A new generation has begun, with this work. Interrupted when the next rebalance begins before it is done. */
  assigned(assignment: ConsumerProtocol.Assignment, member: GroupIdentity): Effect.Effect<void, E, R>
  /** The work may be given away after this: finish, commit, let go. Interrupted at the deadline. */
  readonly revoke: Effect.Effect<void, E, R>
  /** The work was given away already: nothing can be committed any more. */
  readonly lost: Effect.Effect<void, E, R>
  /**
   * Ends when the work must be assigned anew. The member joins again if the group has not begun a rebalance of its own a
   * heartbeat later.
   */
  readonly rejoin: Effect.Effect<void>
  /** Ends when this member is to leave. */
  readonly stop: Effect.Effect<void>
}

export const protocol = "millrace"

/** Why the member's time in a generation is over. */
type Ending = "rebalance" | "lost"

/**
 * Takes part in the group until `stop`, then revokes a last time and leaves. Fails with `PipelineError` of reason `Fenced`
 * when another process has joined under the same instance id.
 */
export const run = Effect.fnUntraced(function* <E, R>(
  options: Options,
  handlers: Handlers<E, R>,
): Effect.fn.Return<void, E | KafkaError | PipelineError, R | Cluster | Scope.Scope> {
  const cluster = yield* Cluster
  const { group, instanceId } = options
  const sessionTimeout = Duration.toMillis(options.sessionTimeout)
  const rebalanceTimeout = Duration.toMillis(options.rebalanceTimeout)
  let memberId = ""
  /** When the group last gave us an id, and when we last took our name back. */
  let named = -Infinity
  let tookBack = -Infinity

  /**
   * Whether our name is another process's. A coordinator that could not write down in time under which id we have joined
   * goes back to the id before, and refuses ours as it would if another had joined: then we join once more. Where it is
   * another process after all, it does the same, and the one of us that is refused again ends.
   */
  const isTaken = Effect.fnUntraced(function* ({ code }: KafkaError) {
    if (code !== "FENCED_INSTANCE_ID") return false
    const now = yield* elapsed
    if (now - named > doubtFor || now - tookBack <= doubtFor) return true
    tookBack = now
    memberId = ""
    return false
  })

  const join = Effect.fnUntraced(function* () {
    for (;;) {
      const metadata = ConsumerProtocol.encodeSubscription({
        topics: options.topics,
        userData: yield* handlers.userData,
      })
      const joined = yield* cluster.joinGroup({
        group,
        memberId,
        instanceId,
        sessionTimeout,
        rebalanceTimeout,
        protocol,
        metadata,
      })
      if (memberId !== joined.memberId) named = yield* elapsed
      memberId = joined.memberId
      if (joined.error === null) return joined
    }
  })

  const joinAndSync = Effect.fnUntraced(function* () {
    const joined = yield* join()
    const identity: GroupIdentity = { group, generation: joined.generation, memberId, instanceId }
    const all = joined.leader === memberId && !joined.skipAssignment
      ? yield* handlers.assign(joined.members.map(({ memberId, metadata }) => ({
        memberId,
        userData: ConsumerProtocol.decodeSubscription(metadata).userData,
      })))
      : new Map<string, ConsumerProtocol.Assignment>()
    const bytes = yield* cluster.syncGroup(
      identity,
      protocol,
      Array.from(all, ([memberId, assignment]) => ({
        memberId,
        assignment: ConsumerProtocol.encodeAssignment(assignment),
      })),
    )
    return { identity, assignment: ConsumerProtocol.decodeAssignment(bytes) }
  })

  /** Joins until it works: what the coordinator refuses because it has moved on is asked again. */
  const enter: Effect.Effect<Effect.Success<ReturnType<typeof joinAndSync>>, E | KafkaError | PipelineError, R> =
    joinAndSync().pipe(
      Effect.catchIf(
        (error): error is E & KafkaError =>
          error instanceof KafkaError && (retriable.has(error.code) || again.has(error.code)),
        Effect.fnUntraced(function* (error) {
          if (yield* isTaken(error)) return yield* taken(options, error)
          if (error.code === "UNKNOWN_MEMBER_ID") memberId = ""
          return yield* Effect.andThen(pause(retryAfter), enter)
        }),
      ),
    )

  /** Heartbeats until the coordinator says that this generation is over, or has not been heard for a session. */
  const heartbeats = (
    identity: GroupIdentity,
    endsOnRebalance: boolean,
  ): Effect.Effect<Ending, KafkaError | PipelineError> =>
    Effect.gen(function* () {
      let heard = yield* elapsed
      for (;;) {
        yield* Effect.sleep(options.heartbeatInterval)
        const answer = yield* Effect.result(
          cluster.heartbeat(identity).pipe(
            Effect.timeoutOption(Duration.millis(sessionTimeout / 2)),
          ),
        )
        const now = yield* elapsed
        if (answer._tag === "Success") {
          if (Option.isSome(answer.success)) heard = now
        } else {
          const { code } = answer.failure
          if (code === "REBALANCE_IN_PROGRESS") {
            heard = now
            if (endsOnRebalance) return "rebalance"
          } else if (yield* isTaken(answer.failure)) return yield* taken(options, answer.failure)
          else if (again.has(code)) {
            if (code === "UNKNOWN_MEMBER_ID") memberId = ""
            return "lost"
          } else if (!retriable.has(code)) return yield* answer.failure
        }
        if (now - heard > sessionTimeout) return "lost"
      }
    })

  const revoke = (identity: GroupIdentity): Effect.Effect<void, E | KafkaError | PipelineError, R> =>
    Effect.raceFirst(
      Effect.as(handlers.revoke, "done" as const),
      heartbeats(identity, false),
    ).pipe(
      Effect.timeoutOption(Duration.millis(rebalanceTimeout * shareForRevoke)),
      Effect.flatMap((ended) =>
        Option.isSome(ended) && ended.value === "lost"
          ? handlers.lost
          : Option.isNone(ended)
          ? Effect.logWarning(`group ${group}: work at hand did not end before the rebalance's deadline`)
          : Effect.void
      ),
    )

  yield* Effect.addFinalizer(() =>
    Effect.ignore(
      within(
        Effect.suspend(() =>
          memberId === "" || instanceId !== undefined ? Effect.void : cluster.leaveGroup(group, memberId)
        ),
        "3 seconds",
      ),
    )
  )

  for (;;) {
    const entered = yield* Effect.raceFirst(enter, Effect.as(handlers.stop, "stop" as const))
    if (entered === "stop") return
    const { identity, assignment } = entered
    yield* Effect.logDebug(
      `group ${group}: ${memberId} is in generation ${identity.generation} with ${assignment.partitions.length} partitions`,
    )
    const work = yield* Effect.forkChild(handlers.assigned(assignment, identity))
    const ending = yield* Effect.raceAllFirst([
      heartbeats(identity, true),
      Effect.as(Effect.andThen(handlers.rejoin, Effect.sleep(options.heartbeatInterval)), "rebalance" as const),
      Effect.andThen(Fiber.join(work), Effect.never),
      Effect.as(handlers.stop, "stop" as const),
    ])
    yield* Effect.logDebug(`group ${group}: ${memberId} ends generation ${identity.generation} (${ending})`)
    yield* Fiber.interrupt(work)
    // Who was not heard joins under its id all the same: a coordinator that was away may know it, and would wait for it.
    if (ending === "lost") yield* handlers.lost
    else yield* revoke(identity)
    if (ending === "stop") return
  }
})

/** Answers after which this member joins again: what it knew of the group is over. */
const again: ReadonlySet<string> = new Set([
  "ILLEGAL_GENERATION",
  "UNKNOWN_MEMBER_ID",
  "REBALANCE_IN_PROGRESS",
  "MEMBER_ID_REQUIRED",
  "FENCED_INSTANCE_ID",
])

/** For so long after it has given a member its id, a coordinator may go back on it, in milliseconds. */
const doubtFor = 30_000

/** To join again would only fence the other one in its turn. */
const taken = ({ group, instanceId }: Options, cause: KafkaError): Effect.Effect<never, PipelineError> =>
  Effect.fail(
    new PipelineError({
      reason: "Fenced",
      retriable: false,
      message: `group ${group}: another process has joined as instance "${instanceId}", and this one ends: ` +
        "give every process an instance id of its own",
      cause,
    }),
  )

/** How much of the rebalance timeout work at a revoke may take; the rest is for noticing and joining again. */
const shareForRevoke = 0.7

/** Milliseconds at most. */
const retryAfter = 250
