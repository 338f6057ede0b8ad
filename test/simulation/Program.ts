/** One program of a run: a process with a clock, a network and a database connection of its own. */
import { Cause, Clock, Context, Effect, Exit, Fiber, Layer } from "effect"
import { type Pipeline, Runner } from "../../src/index.ts"
import { Cluster, type ErrorCode, KafkaError } from "../../src/kafka/Cluster.ts"
import type * as ClusterMemory from "../../src/kafka/ClusterMemory.ts"
import * as Faults from "../../src/kafka/Faults.ts"
import type { AtCall, Decision, Statement, Who } from "./Decision.ts"
import { ProgramClock } from "./ProgramClock.ts"
import type { Kind, Tally } from "./Tally.ts"

export type AnyPipeline = Pipeline.Pipeline<unknown, unknown>

export type PlannedFault = Extract<Decision, { readonly do: "fault" }>

/** What a program of a run needs of it. */
export interface Surroundings {
  readonly tally: Tally
  readonly runner: Partial<Runner.Options>
  /** The brokers, as programs reach them; a defect may be planted here. */
  readonly cluster: Cluster["Service"]
  /** Restarts all brokers a moment from now, when followers do not have yet what is being written. */
  restartSoon(): void
  /** What else pipelines need of a program's own: its connection to the database. */
  services(program: Program): Context.Context<never>
}

/** The brokers give up a member that has not been heard for so long. */
export const sessionTimeout = 1_200

/** How long followers lag, in milliseconds. */
export const replicationLag = 20

/** The brokers of runs allow that short a session. */
export const brokers: ClusterMemory.Options = {
  nodes: 3,
  minSessionTimeout: 1_000,
  markerDelay: 20,
  replicationLag,
}

const runnerOptions: Partial<Runner.Options> = {
  sessionTimeout,
  heartbeatInterval: 300,
  rebalanceTimeout: 4_000,
  shutdownTimeout: 3_000,
}

/** Answers that a program gets whose work is somebody else's by then. */
const moved: ReadonlySet<ErrorCode> = new Set([
  "ILLEGAL_GENERATION",
  "UNKNOWN_MEMBER_ID",
  "PRODUCER_FENCED",
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
  "INVALID_TXN_STATE",
])

const commitPath = new Set<string>([
  "AddPartitionsToTxn",
  "AddOffsetsToTxn",
  "TxnOffsetCommit",
  "EndTxn",
  "OffsetCommit",
])

export class Program {
  readonly who: Who
  readonly pipeline: AnyPipeline
  readonly clock: ProgramClock
  readonly calls: Array<Faults.Call> = []
  /** What it has asked of the database. */
  readonly statements: Array<Pick<PlannedFault, "call" | "n">> = []
  /** Makes it a static member. */
  readonly instance: string | undefined
  transactionalId: string | undefined
  readonly #around: Surroundings
  readonly #faults = new Map<string, PlannedFault>()
  #fiber: Fiber.Fiber<void, unknown> | undefined
  #dead = false
  #stopping = false
  #cutOffUntil = -Infinity
  #slowUntil = -Infinity
  #isZombie = false
  #calm = false

  constructor(
    who: Who,
    pipeline: AnyPipeline,
    clock: Clock.Clock,
    faults: ReadonlyArray<PlannedFault>,
    around: Surroundings,
    instance?: string,
  ) {
    this.instance = instance
    this.who = who
    this.pipeline = pipeline
    this.clock = new ProgramClock(clock)
    this.#around = around
    for (const fault of faults) this.#faults.set(`${fault.call} ${fault.n}`, fault)
  }

  readonly start: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const plan = { start: () => (call: Faults.Call) => this.#meet(call) }
    const connection = yield* Layer.build(Layer.fresh(Faults.layer)).pipe(
      Effect.provideService(Cluster, this.#around.cluster),
      Effect.provideService(Clock.Clock, this.clock),
      Effect.scoped,
    )
    yield* Context.get(connection, Faults.Faults).use(plan)
    const { instance: instanceId } = this
    const running = Runner.run(this.pipeline, { ...runnerOptions, ...this.#around.runner, instanceId })
    this.#fiber = yield* (running as Effect.Effect<void>).pipe(
      Effect.provideService(Cluster, this.#awake(Context.get(connection, Cluster))),
      Effect.provideService(Clock.Clock, this.clock),
      Effect.provideContext(this.#around.services(this)),
      Effect.forkDetach,
    )
  })

  get isDead(): boolean {
    return this.#dead
  }

  /** Neither dead nor told to stop nor over. */
  get runs(): boolean {
    return !this.#dead && !this.#stopping && this.#fiber?.pollUnsafe() === undefined
  }

  get isOver(): boolean {
    return this.#dead || this.#fiber?.pollUnsafe() !== undefined
  }

  /** Why it has ended without being told to. */
  get failure(): string | undefined {
    if (this.#dead || this.#stopping) return undefined
    const exit = this.#fiber?.pollUnsafe()
    return exit === undefined ? undefined : Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "it has finished"
  }

  /** Nothing of it reaches anybody any more, and nothing in it wakes. */
  readonly die: Effect.Effect<void> = Effect.sync(() => {
    this.#dead = true
    this.clock.freeze(Infinity)
  })

  /** As SIGTERM does. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.runs) return Effect.void
    this.#stopping = true
    return Effect.asVoid(Effect.forkDetach(Fiber.interrupt(this.#fiber!)))
  })

  cutOff(millis: number): void {
    this.#cutOffUntil = this.#now + millis
  }

  slowToJoin(millis: number): void {
    this.#slowUntil = this.#now + millis
  }

  freeze(millis: number): void {
    this.clock.freeze(millis)
    this.#isZombie ||= millis > sessionTimeout
  }

  /** The network is whole again; who is frozen still wakes only then. */
  calm(): void {
    this.#calm = true
    this.#cutOffUntil = -Infinity
    this.#slowUntil = -Infinity
  }

  /** What is planned for a call, which is counted where it makes a difference. */
  planned(call: Faults.Operation | Statement, n: number): (AtCall & PlannedFault) | undefined {
    return this.#calm ? undefined : this.#faults.get(`${call} ${n}`)
  }

  count(kind: Kind): void {
    this.#around.tally.add(kind)
  }

  get #now(): number {
    return Number(this.clock.monotonicTimeNanosUnsafe() / 1_000_000n)
  }

  #meet(call: Faults.Call): Faults.Fault | undefined {
    if (this.#dead) return Faults.hang
    this.calls.push(call)
    this.transactionalId = call.transactionalId ?? this.transactionalId
    if (this.clock.isFrozen) return Faults.delay(this.clock.frozenFor)
    if (this.#cutOffUntil > this.#now) return Faults.unreachable
    if (call.operation === "JoinGroup" && this.#slowUntil > this.#now) {
      this.count("slow member kicked out")
      return Faults.delay(this.#slowUntil - this.#now)
    }
    const fault = this.planned(call.operation, call.count)
    return fault === undefined ? undefined : this.#apply(fault, call.operation)
  }

  #apply(fault: PlannedFault, operation: Faults.Operation): Faults.Fault {
    const where = operation === "Produce" ? "produce" : "commit"
    const matters = operation === "Produce" || commitPath.has(operation)
    switch (fault.kind) {
      case "crash before":
        this.count("crash before a call")
        return Faults.crash(this.die)
      case "crash after":
        this.count("crash after a call")
        return Faults.crashAfter(this.die)
      case "unreachable":
        if (matters) this.count(`${where} refused, passing`)
        return Faults.unreachable
      case "refused":
        if (matters) this.count(`${where} refused, passing`)
        return fault.code === "NOT_LEADER_OR_FOLLOWER" ? Faults.refusePartitions(fault.code) : refuse(fault.code)
      case "refused for good":
        if (matters) this.count(`${where} refused for good`)
        return operation === "Produce" ? Faults.refusePartitions(fault.code as ErrorCode) : refuse(fault.code)
      case "answer lost":
        this.count("acknowledgement lost")
        return Faults.loseAnswer
      case "silence":
      case "silence after":
        this.count("answer never came")
        return fault.kind === "silence" ? Faults.silence("5 seconds") : Faults.silenceAfter("5 seconds")
      case "delay":
        this.count("message delayed")
        return Faults.delay(fault.millis)
      case "late":
        this.count("request late")
        return Faults.late(100, fault.millis)
      case "some partitions only":
        this.count("partitions reordered")
        return Faults.refusePartitions("NOT_LEADER_OR_FOLLOWER", ({ partition }) => (partition % 2 === 1) === fault.odd)
      case "brokers restart":
        this.#around.restartSoon()
        return Faults.delay(0)
      case "frozen":
        this.freeze(fault.millis)
        return Faults.delay(fault.millis)
    }
  }

  /** Answers reach a program only while it is not frozen. */
  #awake(cluster: Cluster["Service"]): Cluster["Service"] {
    const heard = <A>(operation: string, call: Effect.Effect<A, KafkaError>): Effect.Effect<A, KafkaError> =>
      Effect.suspend(() => this.#dead ? Effect.never : call).pipe(
        Effect.onExit((exit) => {
          if (this.#isZombie && !this.clock.isFrozen) this.#wake(operation, exit)
          return this.clock.isFrozen ? this.clock.thawed : Effect.void
        }),
      )
    const asked = Object.entries(cluster).map(([name, ask]) => [
      name,
      (...args: ReadonlyArray<never>) =>
        heard(name, (ask as (...args: ReadonlyArray<never>) => Effect.Effect<unknown, KafkaError>)(...args)),
    ])
    return Object.fromEntries(asked) as Cluster["Service"]
  }

  #wake(operation: string, exit: Exit.Exit<unknown, KafkaError>): void {
    const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
    if (!(error instanceof KafkaError) || !moved.has(error.code)) return
    this.#isZombie = false
    this.count("zombie woke after its partitions had moved")
    if (operation !== "heartbeat" && /PRODUCER|TXN/.test(error.code)) this.count("transaction timed out")
  }
}

const refuse = (code: string): Faults.Fault => Faults.refuse(code as ErrorCode)
