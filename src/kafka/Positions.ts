/**
 * Positions of a consumer group, and who committed them: every commit carries the committer's transactional id and member
 * id in its metadata, so that a successor can tell whose transaction is in the way and whether it may be ended. Beside
 * them stands the clock of the topic at that position, so that lateness is the same after a restart.
 */
import { Clock, Effect, Schema } from "effect"
import { elapsed } from "../Pace.ts"
import type { Claim, Plan, TaskId, Work } from "../Pipeline.ts"
import { decodeClock, encodeClock } from "../StreamTime.ts"
import { PipelineError } from "../Task.ts"
import {
  Cluster,
  type CommittedOffset,
  type GroupIdentity,
  KafkaError,
  type OffsetToCommit,
  type TopicPartition,
} from "./Cluster.ts"
import { taskKey } from "./Assignment.ts"
import { patiently } from "./Retry.ts"

/** Who may have left a transaction open. */
const Predecessor = Schema.Struct({ txn: Schema.String, member: Schema.String })
export type Predecessor = typeof Predecessor.Type

/** What stands in a position's metadata. */
export const Owner = Schema.Struct({
  /** The transactional id of the process that committed; null where it uses no transactions. */
  txn: Schema.NullOr(Schema.String),
  member: Schema.String,
  /** Names the commit that moved the position last. */
  commit: Schema.optionalKey(Schema.String),
  /** The id of the topic that the position is in. */
  topic: Schema.optionalKey(Schema.String),
  /** The topic's clock at the position. */
  clock: Schema.optionalKey(Schema.String),
  /** Higher with every taking over, and never used twice. */
  epoch: Schema.optionalKey(Schema.Int),
  /** The replay that the position is in: records below the offset were processed before. */
  replay: Schema.optionalKey(Schema.Struct({ id: Schema.String, below: Schema.Int })),
  /** Those before, as long as it is not known that they have left nothing open. The last one is the first. */
  before: Schema.optionalKey(Schema.Array(Predecessor)),
})
export type Owner = typeof Owner.Type

const OwnerText = Schema.fromJsonString(Owner)
const decodeOwner = Schema.decodeOption(OwnerText)
const encodeOwner = Schema.encodeSync(OwnerText)

export const ownerOf = (committed: CommittedOffset): Owner | undefined => {
  const decoded = decodeOwner(committed.metadata)
  return decoded._tag === "Some" ? decoded.value : undefined
}

/** Who of an owner, and of those before it, may have left a transaction open; not who goes by the id `own`. */
const predecessorsOf = (owner: Owner | undefined, own: string | null): ReadonlyArray<Predecessor> => {
  if (owner === undefined) return []
  const { txn, member, before = [] } = owner
  return (txn === null ? before : [{ txn, member }, ...before]).filter((one) => one.txn !== own)
}

/** So many that die in a row before they have committed anything are remembered. */
const remembered = 4

/** Each of them once. */
export const distinct = (predecessors: ReadonlyArray<Predecessor>): ReadonlyArray<Predecessor> =>
  Array.from(new Map(predecessors.map((one) => [`${one.txn} ${one.member}`, one])).values())

/** The characters of a position's metadata that brokers allow by default (offset.metadata.max.bytes). */
const metadataRoom = 4_096

/** Those that a clock may take: names need the others. */
const clockRoom = 3_000

/** The metadata of a position: as many predecessors are named, the last ones first, as there is room for beside the clock. */
export const metadataOf = (owner: Owner, predecessors: ReadonlyArray<Predecessor>): string => {
  for (let named = Math.min(predecessors.length, remembered); named > 0; named--) {
    const metadata = encodeOwner({ ...owner, before: predecessors.slice(0, named) })
    if (metadata.length <= metadataRoom) return metadata
  }
  return encodeOwner(owner)
}

/** How long an undecided transaction is waited for before its owner, if it has left the group, is fenced. */
const unstableFor = 1_000

export interface Takeover {
  readonly plan: Plan
  /** Our own transactional id; null without transactions. */
  readonly transactionalId: string | null
  readonly transactionTimeout: number
  /** How long a request is repeated while the brokers cannot answer it, in milliseconds. */
  readonly patience: number
}

/** The partitions that a task reads. */
export const partitionsOf = (plan: Plan, task: TaskId): ReadonlyArray<TopicPartition> =>
  plan.flows[task.flow]!.reads.map(({ name }) => ({ topic: name, partition: task.partition }))

/**
 * Takes tasks over: waits until nothing of a previous owner is undecided, settles where positions start that were never
 * committed, and commits them unchanged under our name, fenced by the group's generation. Answers the epoch as well.
 */
export const claim = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  { plan, transactionalId, transactionTimeout, patience }: Takeover,
  tasks: ReadonlyArray<TaskId>,
  member: GroupIdentity,
): Effect.fn.Return<{ readonly epoch: number; readonly claims: ReadonlyArray<Claim> }, KafkaError | PipelineError> {
  const now = Math.floor(yield* Clock.currentTimeMillis)
  const partitions = tasks.flatMap((task) => partitionsOf(plan, task))
  if (partitions.length === 0) return { epoch: now, claims: [] }
  const topicIds = yield* topicIdsOf(cluster, partitions, patience)
  const committed = yield* committedOrStart(cluster, plan, partitions, {
    transactionalId,
    transactionTimeout,
    patience,
    topicIds,
  })
  // The time keeps epochs rising where a tool has reset the positions and with them the last one.
  const epoch = committed.reduce((epoch, one) => Math.max(epoch, 1 + (ownerOf(one)?.epoch ?? 0)), now)
  const at = new Map(committed.map((one) => [`${one.topic}/${one.partition}`, one]))
  const position = ({ topic, partition }: TopicPartition) => at.get(`${topic}/${partition}`)!
  yield* patiently(
    cluster.offsetCommit(
      member,
      partitions.map((where): OffsetToCommit => {
        const { topic, partition, offset, owner } = withOwner(position(where))
        const { before: _, ...rest } = owner ?? {}
        const own = { ...rest, txn: transactionalId, member: member.memberId, epoch, ...named(topicIds.get(topic)) }
        return { topic, partition, offset, metadata: metadataOf(own, predecessorsOf(owner, transactionalId)) }
      }),
    ),
    patience,
  )
  const claims = tasks.map((task): Claim => {
    const owned = partitionsOf(plan, task).map((where) => withOwner(position(where)))
    return {
      positions: new Map(owned.map(({ topic, offset }) => [topic, offset])),
      topicIds,
      clocks: new Map(
        owned.flatMap(({ topic, owner }) => owner?.clock === undefined ? [] : [[topic, decodeClock(owner.clock)]]),
      ),
      commit: owned.find(({ commit }) => commit !== undefined)?.commit,
      // What we held ourselves, as another member, leaves nothing to be ended.
      previous: distinct(owned.flatMap(({ owner }) => predecessorsOf(owner, transactionalId))),
      replays: new Map(owned.flatMap(({ topic, owner }) => owner?.replay === undefined ? [] : [[topic, owner.replay]])),
    }
  })
  return { epoch, claims }
})

const withoutTransactions = { transactionalId: null, transactionTimeout: 60_000, patience: 30_000 }

/** The ids of topics, where they exist. */
export const topicIdsOf = (
  cluster: Cluster["Service"],
  partitions: ReadonlyArray<TopicPartition>,
  patience = withoutTransactions.patience,
): Effect.Effect<ReadonlyMap<string, string>, KafkaError> =>
  Effect.map(
    patiently(cluster.metadata([...new Set(partitions.map(({ topic }) => topic))]), patience),
    ({ topics }) => new Map(topics.flatMap(({ topic, id }) => id === "" ? [] : [[topic, id]])),
  )

export const named = (topic: string | undefined) => topic === undefined ? {} : { topic }

/** Stable positions of a group; where it has none in these very topics, those that its reset policy says. */
export const committedOrStart = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: Plan,
  partitions: ReadonlyArray<TopicPartition>,
  options?: Partial<Omit<Takeover, "plan">> & { readonly topicIds?: ReadonlyMap<string, string> },
): Effect.fn.Return<ReadonlyArray<CommittedOffset>, KafkaError | PipelineError> {
  const { transactionalId, transactionTimeout, patience, topicIds } = { ...withoutTransactions, ...options }
  const fence = fencing(cluster, plan.group, transactionTimeout, transactionalId)
  const committed = yield* stablePositions(cluster, plan.group, partitions, fence)
  const stable: Array<CommittedOffset> = []
  for (const position of committed) {
    const { topic, partition, offset } = position
    const was = ownerOf(position)?.topic
    const now = topicIds?.get(topic)
    const isOther = was !== undefined && now !== undefined && was !== now
    stable.push(isOther ? { ...position, offset: -1, metadata: "" } : position)
    if (!isOther) continue
    yield* Effect.logWarning(
      `group ${plan.group}: topic ${topic} was deleted and created again (its id was ${was} and is ${now}): the position ` +
        `${offset} in partition ${partition} is not used, and the group starts there as its reset policy says`,
    )
  }
  const missing = stable.filter(({ offset }) => offset < 0)
  if (missing.length === 0) return stable
  return [...stable.filter(({ offset }) => offset >= 0), ...yield* startsOf(cluster, plan, missing, patience)]
})

const withOwner = (committed: CommittedOffset) => {
  const owner = ownerOf(committed)
  return { ...committed, owner, commit: owner?.commit }
}

/** Positions and clocks to commit for work, named by their commit. */
export const toCommit = (
  { task, positions, clocks, topicIds, replays }: Pick<
    Work,
    "task" | "positions" | "clocks" | "topicIds" | "replays"
  >,
  owner: Owner,
  predecessors: ReadonlyArray<Predecessor> = [],
): ReadonlyArray<OffsetToCommit> =>
  Array.from(positions, ([topic, offset]) => {
    const clock = clocks.get(topic)
    const replay = replays?.get(topic)
    const own = { ...owner, ...named(topicIds?.get(topic)) }
    const timed = clock === undefined ? own : { ...own, clock: encodeClock(clock, clockRoom) }
    const placed = replay === undefined || offset >= replay.below ? timed : { ...timed, replay }
    return { topic, partition: task.partition, offset, metadata: metadataOf(placed, predecessors) }
  })

/** Ends what owners who have left the group have left open; leaves those alone who are in it, or may be. */
export type Fence = (owners: ReadonlyArray<Predecessor>) => Effect.Effect<void, KafkaError>

/** `own` is our own transactional id, which a member that we were before may have left in the positions. */
export const fencing = (
  cluster: Cluster["Service"],
  group: string,
  transactionTimeout: number,
  own: string | null = null,
): Fence =>
  Effect.fnUntraced(function* (owners) {
    const others = owners.filter(({ txn }) => txn !== own)
    if (others.length === 0) return
    const [description] = yield* cluster.describeGroups([group])
    if (description?.error !== null) return
    for (const { txn, member } of others) {
      if (description.members.some(({ memberId }) => memberId === member)) continue
      yield* Effect.logInfo(`group ${group}: ${member} is gone and may have left a transaction open: ending it`)
      yield* cluster.initProducerId(txn, transactionTimeout)
    }
  })

/** Committed positions that no transaction is about to move. */
export const stablePositions = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  group: string,
  partitions: ReadonlyArray<TopicPartition>,
  fence: Fence,
): Effect.fn.Return<ReadonlyArray<CommittedOffset>, KafkaError> {
  const started = yield* elapsed
  const fenced = new Set<string>()
  for (;;) {
    const committed = yield* patiently(cluster.offsetFetch(group, partitions, true), unstableFor * 30)
    const refused = committed.find(({ error }) => error !== null && error !== "UNSTABLE_OFFSET_COMMIT")
    if (refused !== undefined) return yield* unreadable(group, refused)
    const unstable = committed.filter(({ error }) => error !== null)
    if (unstable.length === 0) return committed
    if ((yield* elapsed) - started >= unstableFor) {
      const owners = (yield* cluster.offsetFetch(group, unstable, false)).map(ownerOf)
      for (const one of distinct(owners.flatMap((owner) => predecessorsOf(owner, null)))) {
        if (fenced.has(one.txn)) continue
        fenced.add(one.txn)
        yield* Effect.ignore(fence([one]))
      }
    }
    yield* Effect.sleep("20 millis")
  }
})

/** Where a group starts that has never committed, by its reset policy. */
const startsOf = Effect.fnUntraced(function* (
  cluster: Cluster["Service"],
  plan: Plan,
  partitions: ReadonlyArray<TopicPartition>,
  patience: number,
): Effect.fn.Return<ReadonlyArray<CommittedOffset>, KafkaError | PipelineError> {
  const { reset } = plan
  const [others, added] = [
    partitions.filter((where) => plan.isAdded?.(where) !== true),
    partitions.filter((where) => plan.isAdded?.(where) === true),
  ] as const
  if (reset === "fail" && others.length > 0) {
    const { topic, partition } = others[0]!
    return yield* new PipelineError({
      reason: "State",
      retriable: false,
      message:
        `group ${plan.group} has no position in topic ${topic} partition ${partition}, and the reset policy is ` +
        '"fail": choose "earliest" or "latest", or commit a position first',
    })
  }
  const list = (partitions: ReadonlyArray<TopicPartition>, at: "earliest" | "latest") =>
    partitions.length === 0 ? Effect.succeed([]) : cluster.listOffsets(partitions, at, "read_committed")
  const listed = Effect.zipWith(
    list(others, reset === "latest" ? "latest" : "earliest"),
    list(added, "earliest"),
    (a, b) => [...a, ...b],
  )
  const offsets = yield* patiently(
    Effect.flatMap(listed, (listed) => {
      const failed = listed.find(({ error }) => error !== null)
      return failed === undefined ? Effect.succeed(listed) : Effect.fail(
        new KafkaError({
          code: failed.error!,
          operation: "ListOffsets",
          message:
            `topic ${failed.topic} partition ${failed.partition}: its offsets cannot be listed (${failed.error})`,
        }),
      )
    }),
    patience,
  )
  return offsets.map(({ topic, partition, offset }) => ({ topic, partition, offset, metadata: "", error: null }))
})

const unreadable = (group: string, { topic, partition, error }: CommittedOffset): KafkaError =>
  new KafkaError({
    code: error ?? "CLIENT",
    operation: "OffsetFetch",
    message: `group ${group}: its position in topic ${topic} partition ${partition} cannot be read (${error})`,
  })

/** What a task stands at, for messages. */
export const describe = (task: TaskId, positions: ReadonlyMap<string, number>): string =>
  `task ${taskKey(task)} at ${Array.from(positions, ([topic, next]) => `${topic}:${next}`).join(", ")}`
