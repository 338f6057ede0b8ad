/**
 * Faults between a program and the brokers: a `Cluster` over another one, whose calls fail, hang, come late or kill the
 * program, as a plan says. It keeps a log of the calls, so that a test can run once without faults, see every step, and
 * then run again with a fault at each.
 *
 * Plans are deterministic: scripted ones count calls, random ones draw from a seed of their own.
 */
import { Clock, Context, Duration, Effect, Fiber, Layer } from "effect"
import {
  Cluster,
  type ErrorCode,
  type FetchedPartition,
  KafkaError,
  type ProduceResult,
  type TopicPartition,
} from "./Cluster.ts"

/** The requests of the protocol, by their names in `KafkaError.operation`. */
export type Operation =
  | "Metadata"
  | "CreateTopics"
  | "DeleteTopics"
  | "DescribeConfigs"
  | "ListOffsets"
  | "Fetch"
  | "Produce"
  | "InitProducerId"
  | "AddPartitionsToTxn"
  | "AddOffsetsToTxn"
  | "TxnOffsetCommit"
  | "EndTxn"
  | "OffsetCommit"
  | "OffsetFetch"
  | "JoinGroup"
  | "SyncGroup"
  | "Heartbeat"
  | "LeaveGroup"
  | "DescribeGroups"
  | "ListGroups"
  | "ListTransactions"
  | "DescribeTransactions"
  | "DescribeProducers"
  | "WriteTxnMarkers"

/** One call, as a plan sees it and the log keeps it. */
export interface Call {
  readonly operation: Operation
  /** Which call of this operation it is, from 1. */
  readonly count: number
  /** Which call of all it is, from 1. */
  readonly step: number
  /** When it is made, in milliseconds. */
  readonly at: number
  readonly topics: ReadonlyArray<string>
  readonly group: string | undefined
  readonly transactionalId: string | undefined
}

/** What happens to a call instead of, or before or after, being carried out. */
export type Fault =
  | { readonly _tag: "Refuse"; readonly code: ErrorCode }
  | { readonly _tag: "LoseAnswer"; readonly code: ErrorCode }
  | { readonly _tag: "Delay"; readonly duration: Duration.Input }
  | { readonly _tag: "Late"; readonly heard: Duration.Input; readonly arrives: Duration.Input }
  | { readonly _tag: "Hang"; readonly carriedOut: boolean }
  | { readonly _tag: "Silence"; readonly carriedOut: boolean; readonly duration: Duration.Input }
  | { readonly _tag: "Crash"; readonly carriedOut: boolean; readonly signal: Effect.Effect<unknown> }
  | {
    readonly _tag: "Partitions"
    readonly code: ErrorCode
    readonly carriedOut: boolean
    readonly affects: (where: TopicPartition) => boolean
  }

/** Not carried out: the call fails with this error. */
export const refuse = (code: ErrorCode): Fault => ({ _tag: "Refuse", code })

/** Not carried out: there is no connection. */
export const unreachable: Fault = refuse("NETWORK")

/** Carried out, but the caller hears only this error: NETWORK or TIMEOUT, say. */
export const loseAnswerAs = (code: ErrorCode): Fault => ({ _tag: "LoseAnswer", code })

/** Carried out, but the connection breaks before the answer. */
export const loseAnswer: Fault = loseAnswerAs("NETWORK")

/** Carried out after this time, also where the caller has given up by then. */
export const delay = (duration: Duration.Input): Fault => ({ _tag: "Delay", duration })

/** The caller waits for `heard` and gives up, with TIMEOUT; `arrives` after that the request is carried out all the same. */
export const late = (heard: Duration.Input, arrives: Duration.Input): Fault => ({ _tag: "Late", heard, arrives })

/** Not carried out, and never answered: the caller waits until it is interrupted. */
export const hang: Fault = { _tag: "Hang", carriedOut: false }

/** Carried out, and never answered. */
export const hangAfter: Fault = { _tag: "Hang", carriedOut: true }

/** Not carried out: after this time without an answer the caller gives up, with TIMEOUT, as the network client does. */
export const silence = (duration: Duration.Input): Fault => ({ _tag: "Silence", carriedOut: false, duration })

/** Carried out, but the caller waits this long for an answer and gives up, with TIMEOUT. */
export const silenceAfter = (duration: Duration.Input): Fault => ({ _tag: "Silence", carriedOut: true, duration })

/**
 * The program dies before the call: it is not carried out, `signal` runs, the call is never answered, and no later call
 * reaches the brokers until another plan is used. The test interrupts the program when it gets the signal.
 */
export const crash = (signal: Effect.Effect<unknown>): Fault => ({ _tag: "Crash", carriedOut: false, signal })

/** The program dies after the call was carried out, before it hears the answer. */
export const crashAfter = (signal: Effect.Effect<unknown>): Fault => ({ _tag: "Crash", carriedOut: true, signal })

/** Of a Produce or Fetch, some partitions are not carried out and answer this error; all of them unless told. */
export const refusePartitions = (code: ErrorCode, affects: (where: TopicPartition) => boolean = () => true): Fault => ({
  _tag: "Partitions",
  code,
  carriedOut: false,
  affects,
})

/** Of a Produce or Fetch, everything is carried out, and some partitions answer this error all the same. */
export const misreportPartitions = (
  code: ErrorCode,
  affects: (where: TopicPartition) => boolean = () => true,
): Fault => ({ _tag: "Partitions", code, carriedOut: true, affects })

/** Decides for each call. `start` begins anew, so that a plan can be used again. */
export interface Plan {
  readonly start: () => (call: Call) => Fault | undefined
}

export const none: Plan = { start: () => () => undefined }

/** The n-th call that matches, from 1. */
export const nth = (n: number, matches: (call: Call) => boolean, fault: Fault): Plan => ({
  start: () => {
    let seen = 0
    return (call) => matches(call) && ++seen === n ? fault : undefined
  },
})

/** The n-th call of an operation, from 1. */
export const at = (operation: Operation, n: number, fault: Fault): Plan =>
  nth(n, (call) => call.operation === operation, fault)

/** Every call that matches. */
export const every = (matches: (call: Call) => boolean, fault: Fault): Plan => ({
  start: () => (call) => matches(call) ? fault : undefined,
})

/** From the n-th call of an operation on, and for this long, every call that matches. */
export const outage = (
  operation: Operation,
  n: number,
  lasts: Duration.Input,
  fault: Fault,
  matches: (call: Call) => boolean = () => true,
): Plan => ({
  start: () => {
    let until: number | undefined
    return (call) => {
      if (until === undefined && call.operation === operation && call.count === n) {
        until = call.at + Duration.toMillis(lasts)
      }
      return until !== undefined && call.at < until && matches(call) ? fault : undefined
    }
  },
})

/** Several plans: the first one that has a fault for a call decides; all of them count it. */
export const all = (...plans: ReadonlyArray<Plan>): Plan => ({
  start: () => {
    const started = plans.map((plan) => plan.start())
    return (call) => started.map((decide) => decide(call)).find((fault) => fault !== undefined)
  },
})

/** Shares of calls, each from 0 to 1, together at most 1. */
export interface Rates {
  /** Not carried out, with an error that passes by itself. */
  readonly refuse?: number
  /** Carried out, answer lost. */
  readonly loseAnswer?: number
  /** Carried out late. */
  readonly delay?: number
  /** The longest delay; 100 ms unless given. */
  readonly maxDelay?: Duration.Input
  /** Given up by the caller, and carried out up to 3 seconds later. */
  readonly late?: number
  /** Which calls; all unless given. */
  readonly matches?: (call: Call) => boolean
}

/** Faults drawn from a seed: the same calls meet the same faults. */
export const random = (seed: number, rates: Rates): Plan => ({
  start: () => {
    const draw = generator(seed)
    const maxDelay = Duration.toMillis(rates.maxDelay ?? "100 millis")
    const pick = <A>(from: ReadonlyArray<A>): A => from[Math.floor(draw() * from.length)]!
    return (call) => {
      if (rates.matches?.(call) === false) return undefined
      let share = draw()
      if ((share -= rates.refuse ?? 0) < 0) {
        const code = pick(passing(call.operation))
        return code === "NOT_LEADER_OR_FOLLOWER" ? refusePartitions(code, () => draw() < 0.5) : refuse(code)
      }
      if ((share -= rates.loseAnswer ?? 0) < 0) return loseAnswerAs(pick(["NETWORK", "TIMEOUT"]))
      if ((share -= rates.delay ?? 0) < 0) return delay(Math.ceil(draw() * maxDelay))
      if ((share -= rates.late ?? 0) < 0) return late(Math.ceil(draw() * 300), Math.ceil(draw() * 3_000))
    }
  },
})

/** Errors that pass by themselves and that this request can meet. */
const passing = (operation: Operation): ReadonlyArray<ErrorCode> => {
  switch (operation) {
    case "Metadata":
    case "CreateTopics":
    case "DeleteTopics":
    case "DescribeConfigs":
    case "ListOffsets":
    case "ListGroups":
    case "ListTransactions":
    case "DescribeProducers":
    case "WriteTxnMarkers":
      return ["NETWORK"]
    case "Fetch":
    case "Produce":
      return ["NETWORK", "NOT_LEADER_OR_FOLLOWER"]
    default:
      return ["NETWORK", "NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS"]
  }
}

/** Numbers from 0 to below 1 (mulberry32). */
const generator = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** The plan in force and the log of the calls. */
export class Faults extends Context.Service<Faults, {
  /** Begins this plan, with counts from 1 and an empty log; a program that had crashed can reach the brokers again. */
  use(plan: Plan): Effect.Effect<void>
  /** The calls since the plan began, in order. */
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
}>()("millrace/kafka/Faults") {}

/** What a call is about. */
interface About {
  readonly topics?: ReadonlyArray<string>
  readonly group?: string
  readonly transactionalId?: string | null
}

/** Without faults until a plan is used. */
export const layer: Layer.Layer<Cluster | Faults, never, Cluster> = Layer.effectContext(Effect.gen(function* () {
  const cluster = yield* Cluster
  const clock = yield* Clock.clockWith(Effect.succeed)
  let decide = none.start()
  let calls: Array<Call> = []
  let counts = new Map<Operation, number>()
  let crashed = false

  /** Logs the call and does with it what the plan says. `partial` carries it out where partitions are affected. */
  const meet = <A>(
    operation: Operation,
    about: About,
    carryOut: Effect.Effect<A, KafkaError>,
    partial?: (fault: Fault & { _tag: "Partitions" }) => Effect.Effect<A, KafkaError>,
  ): Effect.Effect<A, KafkaError> =>
    Effect.suspend(() => {
      if (crashed) return failed(operation, "NETWORK")
      const count = (counts.get(operation) ?? 0) + 1
      counts.set(operation, count)
      const call: Call = {
        operation,
        count,
        step: calls.length + 1,
        at: clock.currentTimeMillisUnsafe(),
        topics: [...new Set(about.topics)],
        group: about.group,
        transactionalId: about.transactionalId ?? undefined,
      }
      calls.push(call)
      const fault = decide(call)
      switch (fault?._tag) {
        case undefined:
          return carryOut
        case "Refuse":
          return failed(operation, fault.code)
        case "LoseAnswer":
          return Effect.andThen(Effect.exit(carryOut), failed(operation, fault.code))
        case "Delay":
          return Effect.flatMap(Effect.forkDetach(Effect.delay(carryOut, fault.duration)), Fiber.join)
        case "Late":
          return Effect.sleep(fault.heard).pipe(
            Effect.andThen(Effect.forkDetach(Effect.delay(carryOut, fault.arrives))),
            Effect.andThen(failed(operation, "TIMEOUT")),
          )
        case "Hang":
          return Effect.andThen(fault.carriedOut ? Effect.exit(carryOut) : Effect.void, Effect.never)
        case "Silence":
          return (fault.carriedOut ? Effect.exit(carryOut) : Effect.void).pipe(
            Effect.andThen(Effect.sleep(fault.duration)),
            Effect.andThen(failed(operation, "TIMEOUT")),
          )
        case "Crash":
          crashed = true
          return Effect.andThen(
            Effect.andThen(fault.carriedOut ? Effect.exit(carryOut) : Effect.void, fault.signal),
            Effect.never,
          )
        case "Partitions":
          return partial?.(fault) ?? carryOut
      }
    })

  const service: Cluster["Service"] = {
    metadata: (topics) => meet("Metadata", topics === undefined ? {} : { topics }, cluster.metadata(topics)),
    createTopics: (topics) =>
      meet("CreateTopics", { topics: topics.map(({ topic }) => topic) }, cluster.createTopics(topics)),
    deleteTopics: (topics) => meet("DeleteTopics", { topics }, cluster.deleteTopics(topics)),
    topicConfig: (topic) => meet("DescribeConfigs", { topics: [topic] }, cluster.topicConfig(topic)),
    listOffsets: (partitions, at, isolation) =>
      meet("ListOffsets", { topics: topicsOf(partitions) }, cluster.listOffsets(partitions, at, isolation)),
    fetch: (request) =>
      meet("Fetch", { topics: topicsOf(request.partitions) }, cluster.fetch(request), (fault) =>
        somePartitions(
          fault,
          request.partitions,
          (partitions) => cluster.fetch({ ...request, partitions }),
          ({ topic, partition }, error): FetchedPartition => ({
            topic,
            partition,
            error,
            highWatermark: -1,
            lastStableOffset: -1,
            logStartOffset: -1,
            aborted: [],
            batches: [],
          }),
        )),
    produce: (request) =>
      meet(
        "Produce",
        { topics: topicsOf(request.batches), transactionalId: request.transactionalId },
        cluster.produce(request),
        (fault) =>
          somePartitions(
            fault,
            request.batches,
            (batches) => cluster.produce({ ...request, batches }),
            ({ topic, partition }, error): ProduceResult => ({ topic, partition, error, baseOffset: -1 }),
          ),
      ),
    initProducerId: (transactionalId, timeout, current) =>
      meet("InitProducerId", { transactionalId }, cluster.initProducerId(transactionalId, timeout, current)),
    addPartitionsToTxn: (txn, partitions) =>
      meet(
        "AddPartitionsToTxn",
        { topics: topicsOf(partitions), transactionalId: txn.transactionalId },
        cluster.addPartitionsToTxn(txn, partitions),
      ),
    addOffsetsToTxn: (txn, group) =>
      meet("AddOffsetsToTxn", { group, transactionalId: txn.transactionalId }, cluster.addOffsetsToTxn(txn, group)),
    txnOffsetCommit: (txn, member, offsets) =>
      meet(
        "TxnOffsetCommit",
        { topics: topicsOf(offsets), group: member.group, transactionalId: txn.transactionalId },
        cluster.txnOffsetCommit(txn, member, offsets),
      ),
    endTxn: (txn, commit) => meet("EndTxn", { transactionalId: txn.transactionalId }, cluster.endTxn(txn, commit)),
    offsetCommit: (member, offsets) =>
      meet("OffsetCommit", { topics: topicsOf(offsets), group: member.group }, cluster.offsetCommit(member, offsets)),
    offsetFetch: (group, partitions, requireStable) =>
      meet(
        "OffsetFetch",
        { topics: topicsOf(partitions ?? []), group },
        cluster.offsetFetch(group, partitions, requireStable),
      ),
    joinGroup: (request) => meet("JoinGroup", { group: request.group }, cluster.joinGroup(request)),
    syncGroup: (member, protocol, assignments) =>
      meet("SyncGroup", { group: member.group }, cluster.syncGroup(member, protocol, assignments)),
    heartbeat: (member) => meet("Heartbeat", { group: member.group }, cluster.heartbeat(member)),
    leaveGroup: (group, memberId) => meet("LeaveGroup", { group }, cluster.leaveGroup(group, memberId)),
    describeGroups: (groups) => meet("DescribeGroups", {}, cluster.describeGroups(groups)),
    listGroups: () => meet("ListGroups", {}, cluster.listGroups()),
    listTransactions: () => meet("ListTransactions", {}, cluster.listTransactions()),
    describeTransactions: (ids) => meet("DescribeTransactions", {}, cluster.describeTransactions(ids)),
    describeProducers: (partitions) =>
      meet("DescribeProducers", { topics: topicsOf(partitions) }, cluster.describeProducers(partitions)),
    writeTxnMarkers: (marker) =>
      meet("WriteTxnMarkers", { topics: topicsOf(marker.partitions) }, cluster.writeTxnMarkers(marker)),
  }

  return Context.make(Cluster, service).pipe(Context.add(Faults, {
    use: (plan) =>
      Effect.sync(() => {
        decide = plan.start()
        calls = []
        counts = new Map()
        crashed = false
      }),
    calls: Effect.sync(() => [...calls]),
  }))
}))

const topicsOf = (partitions: ReadonlyArray<TopicPartition>): ReadonlyArray<string> =>
  partitions.map(({ topic }) => topic)

const failed = (operation: Operation, code: ErrorCode): Effect.Effect<never, KafkaError> =>
  Effect.fail(new KafkaError({ code, operation, message: `injected fault at ${operation}` }))

/** Carries a request out for the partitions that are not affected, and answers the error for the others. */
const somePartitions = <P extends TopicPartition, A extends TopicPartition>(
  { code, affects, carriedOut }: Fault & { _tag: "Partitions" },
  wanted: ReadonlyArray<P>,
  request: (partitions: ReadonlyArray<P>) => Effect.Effect<ReadonlyArray<A>, KafkaError>,
  refused: (where: TopicPartition, code: ErrorCode) => A,
): Effect.Effect<ReadonlyArray<A>, KafkaError> => {
  const affected = new Set(wanted.filter(affects))
  const sent = carriedOut ? wanted : wanted.filter((one) => !affected.has(one))
  return Effect.map(
    sent.length === 0 ? Effect.succeed([]) : request(sent),
    (answers) =>
      wanted.map((one) =>
        affected.has(one)
          ? refused(one, code)
          : answers.find(({ topic, partition }) => topic === one.topic && partition === one.partition)!
      ),
  )
}
