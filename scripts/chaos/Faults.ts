/** What goes wrong, and how it is put right. */
import { setTimeout as sleep } from "node:timers/promises"
import { type Brokers, nodes } from "./Brokers.ts"
import { type Database, signalOne } from "./Database.ts"
import type { Network } from "./Network.ts"
import type { Program } from "./Programs.ts"
import type { Random } from "./Random.ts"
import type { Effect } from "./Rules.ts"

export const kinds = [
  "kill a program",
  "kill a broker",
  "freeze a program",
  "freeze a broker",
  "freeze the database",
  "freeze a database connection",
  "crash of the database",
  "cut the network",
  "slow the network",
  "full disk of a broker",
  "rebalance",
] as const

export type Kind = typeof kinds[number]

/** What there is to be broken. */
export interface Site {
  readonly brokers: Brokers
  readonly database: Database
  readonly network: Network
  readonly programs: ReadonlyArray<Program>
  /** How long faults last, of the time that they last otherwise. */
  readonly scale: number
  /** Starts one more process of a program, and answers it. */
  extra(program: string): Program
  /** Told of what must not happen. */
  complain(what: string): void
  /** Told of what may happen and is worth a line in the report. */
  note(what: string): void
}

export interface Fault {
  readonly kind: Kind
  /** What exactly. */
  readonly text: string
  /** What it happens to: two at once have different ones. */
  readonly target: string
  /** Breaks it, waits, and puts it right. */
  run(): Promise<void>
}

const tenths = (seconds: number): string => `${seconds.toFixed(1)} s`

/** Draws a fault of a kind; the same for the same chance. */
const draw = (kind: Kind, random: Random, site: Site): Fault => {
  const { brokers, database, network, programs } = site
  const program = random.of(programs)
  const node = random.of(nodes)
  const { name } = program.spec
  const between = (least: number, most: number): number => site.scale * random.between(least, most)
  const fault = (target: string, text: string, run: () => Promise<void>): Fault => ({ kind, text, target, run })
  switch (kind) {
    case "kill a program": {
      const pause = between(0, 2)
      return fault(name, `kill -9 ${name}, started again after ${tenths(pause)}`, async () => {
        await program.end("SIGKILL")
        await sleep(pause * 1_000)
        program.start()
      })
    }
    case "kill a broker": {
      const pause = between(0, 4)
      return fault(`broker ${node}`, `kill -9 broker ${node}, started again after ${tenths(pause)}`, async () => {
        await brokers.kill(node)
        await sleep(pause * 1_000)
        await brokers.restart(node)
      })
    }
    case "freeze a program": {
      const time = random.next() < 0.7 ? between(0.5, 4) : between(7, 13)
      return fault(name, `SIGSTOP ${name} for ${tenths(time)}`, async () => {
        program.signal("SIGSTOP")
        await sleep(time * 1_000)
        program.signal("SIGCONT")
      })
    }
    case "freeze a broker": {
      const time = random.next() < 0.6 ? between(1, 6) : between(10, 14)
      return fault(`broker ${node}`, `SIGSTOP broker ${node} for ${tenths(time)}`, async () => {
        brokers.signal(node, "SIGSTOP")
        await sleep(time * 1_000)
        brokers.signal(node, "SIGCONT")
      })
    }
    case "freeze the database": {
      const time = between(0.5, 6)
      return fault("database", `SIGSTOP all of Postgres for ${tenths(time)}`, async () => {
        database.signalAll("SIGSTOP")
        await sleep(time * 1_000)
        database.signalAll("SIGCONT")
      })
    }
    case "freeze a database connection": {
      const time = random.next() < 0.5 ? between(1, 5) : between(6, 12)
      const chosen = random.next()
      return fault("database", `SIGSTOP one process of Postgres for ${tenths(time)}`, async () => {
        const pid = await database.backend((pids) => pids[Math.floor(chosen * pids.length)] ?? 0)
        if (pid === 0) return
        signalOne(pid, "SIGSTOP")
        await sleep(time * 1_000)
        signalOne(pid, "SIGCONT")
      })
    }
    case "crash of the database": {
      const chosen = random.next()
      return fault("database", "kill -9 one process of Postgres, which ends all others and recovers", async () => {
        const pid = await database.backend((pids) => pids[Math.floor(chosen * pids.length)] ?? 0)
        if (pid !== 0) signalOne(pid, "SIGKILL")
      })
    }
    case "cut the network": {
      const time = random.next() < 0.7 ? between(0.5, 5) : between(7, 13)
      const effect = random.of<Effect>([{ type: "refuse" }, { type: "silence" }, { type: "deaf" }])
      const way = link(random, site)
      return fault(way.text, `${cutting[effect.type]} ${way.text} for ${tenths(time)}`, async () => {
        const heal = await network.set({ ...way, effect })
        await sleep(time * 1_000)
        await heal()
      })
    }
    case "slow the network": {
      const time = between(2, 6)
      const latency = Math.round(random.between(20, 250))
      const rate = Math.round(random.between(0.3, 3) * 10) / 10
      const way = link(random, site)
      const text = `${latency} ms and ${rate} MB/s ${way.text} for ${tenths(time)}`
      return fault(way.text, text, async () => {
        const heal = await network.set({ ...way, effect: { type: "slow", latency, rate: rate * 1_000_000 } })
        await sleep(time * 1_000)
        await heal()
      })
    }
    case "full disk of a broker": {
      const time = between(1, 4)
      return fault(
        `broker ${node}`,
        `no room on the disk of broker ${node}, which is noticed, and room again after`,
        async () => {
          const free = await brokers.fill(node)
          // A broker whose only disk fails ends.
          for (let left = 200; left > 0 && brokers.isRunning(node); left--) await sleep(100)
          if (brokers.isRunning(node)) site.complain(`broker ${node} did not notice that its disk was full for 20 s`)
          await sleep(time * 1_000)
          free()
          if (!brokers.isRunning(node)) await brokers.restart(node)
        },
      )
    }
    case "rebalance": {
      const name = random.of(["enrich", "aggregate", "store"])
      const time = between(2, 4)
      return fault(`groups of ${name}`, `one more ${name} for ${tenths(time)}, stopped with SIGTERM`, async () => {
        const extra = site.extra(name)
        extra.start()
        await extra.begun()
        await sleep(time * 1_000)
        const how = await extra.end("SIGTERM")
        // Where servers are away at the same time, a stop cannot commit what is at hand, and says so.
        if (how === "code 1") site.note(`${extra.spec.name} was stopped and could not commit what was at hand`)
        else if (how !== "code 0") site.complain(`${extra.spec.name} ended with ${how} when it was stopped`)
      })
    }
  }
}

const cutting = { refuse: "connections refused", silence: "nothing passes", deaf: "no answers pass", slow: "" }

/** A connection, or several: between one program or all of them and one broker, all brokers or the database. */
const link = (random: Random, { programs }: Site) => {
  const program = random.next() < 0.7 ? random.of(programs).spec : undefined
  const usesDatabase = program === undefined || program.program === "store"
  const servers = usesDatabase
    ? ["broker 1", "broker 2", "broker 3", "database", "database"]
    : ["broker 1", "broker 2", "broker 3", undefined]
  const server = random.of<string | undefined>(servers)
  return {
    program: program?.name,
    server,
    text: `between ${program?.name ?? "all programs"} and ${server ?? "all brokers"}`,
  }
}

/** How often each kind comes in one deck. */
const deck: Readonly<Record<Kind, number>> = {
  "kill a program": 5,
  "kill a broker": 1,
  "freeze a program": 3,
  "freeze a broker": 1,
  "freeze the database": 1,
  "freeze a database connection": 1,
  "crash of the database": 1,
  "cut the network": 3,
  "slow the network": 2,
  "full disk of a broker": 1,
  rebalance: 2,
}

const pairs = 0.35

/** Faults without end, one or two at a time, every kind in turn. */
export function* plan(random: Random, site: Site, only: ReadonlyArray<Kind>): Generator<ReadonlyArray<Fault>> {
  for (;;) {
    yield* dealt(
      random.shuffled(only.flatMap((kind) => Array.from({ length: deck[kind] }, () => kind))),
      random,
      site,
      pairs,
    )
  }
}

/** Every kind once, two at a time where they have different targets. */
export const once = (random: Random, site: Site, only: ReadonlyArray<Kind>): Generator<ReadonlyArray<Fault>> =>
  dealt(random.shuffled(only), random, site, 1)

function* dealt(
  kinds: Array<Kind>,
  random: Random,
  site: Site,
  together: number,
): Generator<ReadonlyArray<Fault>> {
  for (let kind = kinds.pop(); kind !== undefined; kind = kinds.pop()) {
    const first = draw(kind, random, site)
    const other = random.next() < together ? kinds.at(-1) : undefined
    const second = other === undefined ? undefined : draw(other, random, site)
    if (second === undefined || second.target === first.target) {
      yield [first]
    } else {
      kinds.pop()
      yield [first, second]
    }
  }
}
