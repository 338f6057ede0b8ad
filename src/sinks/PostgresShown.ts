/** Positions that the database holds, shown to the consumer group for tools that tell lag. */
import { Effect, Latch, type Scope, Semaphore } from "effect"
import type { Cluster, GroupIdentity, TopicPartition } from "../kafka/Cluster.ts"
import { stale } from "../kafka/Errors.ts"

export interface Position extends TopicPartition {
  readonly next: number
}

export interface Shown {
  /** Tries once, and never fails: what cannot be shown is tried again every second, with what has moved meanwhile. */
  show(member: GroupIdentity, positions: ReadonlyArray<Position>): Effect.Effect<void>
}

/** Nothing is read from what is shown, so it may be late; but it must not stay behind when no more records come. */
export const make = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  metadataOf: (position: Position, member: GroupIdentity) => string,
): Effect.fn.Return<Shown, never, Scope.Scope> {
  const asking = yield* Semaphore.make(1)
  const due = Latch.makeUnsafe()
  const waiting = new Map<string, Position>()
  let member: GroupIdentity | undefined

  const attempt = Semaphore.withPermits(asking, 1)(Effect.suspend(() => {
    const positions = [...waiting]
    const shownBy = member
    if (shownBy === undefined || positions.length === 0) return Effect.void
    const offsets = positions.map(([, position]) => ({
      topic: position.topic,
      partition: position.partition,
      offset: position.next,
      metadata: metadataOf(position, shownBy),
    }))
    return Effect.matchEffect(cluster.offsetCommit(shownBy, offsets), {
      onSuccess: () => Effect.sync(() => settle(positions)),
      // Whoever has the partitions now shows them.
      onFailure: ({ code }) => Effect.sync(() => stale.has(code) ? settle(positions) : Latch.openUnsafe(due)),
    })
  }))
  const settle = (positions: ReadonlyArray<readonly [string, Position]>) => {
    for (const [key, position] of positions) if (waiting.get(key) === position) waiting.delete(key)
  }

  yield* Effect.forkScoped(Effect.forever(Effect.gen(function* () {
    yield* due.await
    yield* Effect.sleep("1 second")
    Latch.closeUnsafe(due)
    yield* attempt
  })))

  return {
    show: (now, positions) =>
      Effect.suspend(() => {
        if (member?.generation !== now.generation || member.memberId !== now.memberId) waiting.clear()
        member = now
        for (const one of positions) waiting.set(`${one.topic}/${one.partition}`, one)
        return attempt
      }),
  }
})
