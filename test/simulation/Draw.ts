/** Schedules and faults as dice fall. */
import type { Operation } from "../../src/kafka/Faults.ts"
import type { Dice } from "../support/Seeds.ts"
import type { AtCall, Decision, Fed, Statement, Who } from "./Decision.ts"
import type { System } from "./World.ts"

const transaction: ReadonlyArray<Operation> = [
  "AddPartitionsToTxn",
  "Produce",
  "Produce",
  "AddOffsetsToTxn",
  "TxnOffsetCommit",
  "EndTxn",
]

const commitPath: ReadonlyArray<Operation> = [...transaction, "OffsetCommit"]

const operations: ReadonlyArray<Operation> = [
  ...commitPath,
  ...commitPath,
  "OffsetFetch",
  "InitProducerId",
  "ListOffsets",
  "JoinGroup",
  "SyncGroup",
  "Fetch",
  "Heartbeat",
]

const statements: ReadonlyArray<Statement> = ["Begin", "Query", "Query", "Commit"]

const passing = (dice: Dice, call: Operation): AtCall =>
  call === "Produce" || call === "Fetch"
    ? { kind: "refused", code: "NOT_LEADER_OR_FOLLOWER" }
    : { kind: "refused", code: dice.pick(["NOT_COORDINATOR", "COORDINATOR_LOAD_IN_PROGRESS"]) }

/** A plain commit of positions that arrives after the same member has committed again takes the group back: nothing but the
 * generation keeps it out. */
const mayComeLate = (call: Operation) => call !== "OffsetCommit"

const atCall = (dice: Dice, call: Operation): AtCall =>
  dice.pick<() => AtCall>([
    () => ({ kind: "crash before" }),
    () => ({ kind: "crash after" }),
    () => ({ kind: "crash after" }),
    () => ({ kind: "unreachable" }),
    () => ({ kind: "answer lost" }),
    () => ({ kind: "answer lost" }),
    () => passing(dice, call),
    () => ({ kind: "delay", millis: dice.pick([30, 300, 1_500]) }),
    () => ({ kind: "delay", millis: dice.pick([30, 300, 1_500]) }),
    () => ({ kind: call === "Produce" ? "brokers restart" : "answer lost" }),
    () => ({ kind: "frozen", millis: dice.pick([1_500, 3_500, 8_000]) }),
    () => mayComeLate(call) ? { kind: "late", millis: dice.pick([200, 1_500]) } : { kind: "unreachable" },
    () => ({ kind: dice.pick(["silence", "silence after"] as const) }),
    () =>
      call === "Fetch" || call === "Produce"
        ? { kind: "some partitions only", odd: dice.int(0, 1) === 0 }
        : { kind: "delay", millis: 100 },
    () =>
      call === "Produce"
        ? { kind: "refused for good", code: dice.pick(["MESSAGE_TOO_LARGE", "INVALID_TIMESTAMP"]) }
        : commitPath.includes(call)
        ? { kind: "refused for good", code: "GROUP_AUTHORIZATION_FAILED" }
        : { kind: "answer lost" },
  ])()

const atStatement = (dice: Dice): AtCall =>
  dice.pick<AtCall>([
    { kind: "crash before" },
    { kind: "crash after" },
    { kind: "unreachable" },
    { kind: "answer lost" },
    { kind: "answer lost" },
    { kind: "delay", millis: 300 },
    { kind: "frozen", millis: dice.pick([1_000, 3_500, 8_000]) },
  ])

const fault = (dice: Dice, who: Who, writes: boolean): Decision => {
  const n = dice.pick([1, 1, 2, 2, 3, 4, 6])
  if (writes && dice.int(0, 1) === 0) return { do: "fault", who, call: dice.pick(statements), n, ...atStatement(dice) }
  const call = dice.pick(operations)
  return { do: "fault", who, call, n, ...atCall(dice, call) }
}

/** One of two programs freezes in the middle of a commit, for longer than its session: the other takes its work over. */
const zombie = (dice: Dice, pipeline: string, writes: boolean): ReadonlyArray<Decision> => {
  const who = { pipeline, nth: dice.pick([1, 2]) }
  const frozen = { kind: "frozen", millis: dice.pick([3_500, 8_000]) } as const
  // Some statements come before the first commit.
  const [call, n] = writes
    ? dice.pick([["Begin", dice.int(3, 6)], ["Query", dice.int(7, 20)], ["Commit", dice.int(3, 6)]] as const)
    : [dice.pick(commitPath), dice.int(1, 3)] as const
  return [{ do: "start", pipeline }, { do: "fault", who, call, n, ...frozen }]
}

const second = 1_000
const hour = 3_600 * second

/** Every third program or so has a name, of which there are two. */
const start = (dice: Dice, pipeline: string): Decision => {
  const instance = dice.pick([undefined, undefined, undefined, "a", "b"])
  return { do: "start", pipeline, ...instance !== undefined && { instance } }
}

const happening = (dice: Dice, who: Who): Decision =>
  dice.pick<() => Decision>([
    () => start(dice, who.pipeline),
    () => start(dice, who.pipeline),
    () => ({ do: "stop", who }),
    () => ({ do: "kill", who }),
    () => ({ do: "kick", who }),
    () => ({ do: "fence", who }),
    () => ({ do: "cut off", who, millis: dice.pick([second, 4 * second]) }),
    () => ({ do: "freeze", who, millis: dice.pick([second, 4 * second, 8 * second]) }),
    () => ({ do: "slow to join", who, millis: 6 * second }),
    () => ({ do: "jump", who, millis: dice.pick([-10 * hour, -hour / 2, -second, second, hour / 2]) }),
    () => ({ do: "restart broker", node: dice.int(1, 3) }),
  ])()

/** Programs of a system that come, go and fail while its input comes in; `writes` where they use a database. */
export const chaos = (
  dice: Dice,
  { pipelines }: Pick<System, "pipelines">,
  input: ReadonlyArray<Fed>,
  writes: ReadonlySet<string> = new Set(),
): ReadonlyArray<Decision> => {
  const who = (): Who => ({ pipeline: dice.pick(pipelines).name, nth: dice.pick([1, 1, 1, 2, 2, 3]) })
  const faults = dice.list(1, 4 + 3 * pipelines.length, () => {
    const one = who()
    return fault(dice, one, writes.has(one.pipeline))
  })
  const schedule: Array<Decision> = []
  for (let fed = 0; fed < input.length;) {
    const next = fed + dice.int(1, 14)
    schedule.push(...input.slice(fed, next).map((record): Decision => ({ do: "feed", record })))
    fed = next
    if (dice.int(0, 1) === 0) schedule.push(happening(dice, who()))
    schedule.push({ do: "wait", millis: dice.pick([10, 60, 300, 300, second]) })
  }
  const starts = pipelines.map(({ name }): Decision => start(dice, name))
  const began = dice.int(0, 3)
  if (dice.int(0, 3) === 0) {
    const { name } = dice.pick(pipelines)
    starts.push(...zombie(dice, name, writes.has(name)))
  }
  return [...faults, ...schedule.slice(0, began), ...starts, ...schedule.slice(began)]
}

/**
 * Programs that die, one of them at least, at any call of any commit; the input comes a few records at a time. The first
 * program is killed between two calls where it has not died at one before.
 */
export const deaths = (
  dice: Dice,
  { pipelines }: Pick<System, "pipelines">,
  input: ReadonlyArray<Fed>,
): ReadonlyArray<Decision> => {
  const faults = dice.list(1, 3, (i): Decision => ({
    do: "fault",
    who: { pipeline: dice.pick(pipelines).name, nth: i === 0 ? 1 : dice.int(1, 3) },
    call: dice.pick(dice.int(0, 4) === 0 ? operations : transaction),
    n: i === 0 ? dice.pick([1, 1, 1, 2]) : dice.int(1, 3),
    kind: dice.pick(["crash before", "crash after", "crash after", "answer lost"]),
  }))
  const parts = dice.int(1, 3)
  const size = Math.ceil(input.length / parts)
  const killed = dice.int(0, parts - 1)
  const who = { pipeline: dice.pick(pipelines).name, nth: 1 }
  const part = (nth: number): ReadonlyArray<Decision> => [
    ...input.slice(nth * size, (nth + 1) * size).map((record): Decision => ({ do: "feed", record })),
    // A commit begins about 100 ms after the first of what it commits has come.
    { do: "wait", millis: dice.pick([60, 100, 110, 120, 140, 160]) },
    ...nth === killed ? [{ do: "kill", who } as const] : [],
  ]
  return [
    ...faults,
    ...pipelines.map(({ name }): Decision => start(dice, name)),
    // It has joined its group by then.
    { do: "wait", millis: 60 },
    ...Array.from({ length: parts }, (_, nth) => part(nth)).flat(),
    // Who follows commits as well before the network is whole.
    { do: "wait", millis: 200 },
  ]
}

/** The input in three parts, with time for a commit between them, and programs that are stopped in the end. */
export const calm = (
  { pipelines }: Pick<System, "pipelines">,
  input: ReadonlyArray<Fed>,
): ReadonlyArray<Decision> => {
  const third = Math.ceil(input.length / 3)
  const part = (nth: number) =>
    input.slice(nth * third, (nth + 1) * third).map((record): Decision => ({ do: "feed", record }))
  const wait = (millis: number): Decision => ({ do: "wait", millis })
  return [
    ...part(0),
    ...pipelines.map(({ name }): Decision => ({ do: "start", pipeline: name })),
    wait(450),
    ...part(1),
    wait(350),
    ...part(2),
    wait(160),
    ...pipelines.map(({ name }): Decision => ({ do: "stop", who: { pipeline: name, nth: 1 } })),
    wait(200),
  ]
}
