/**
 * How far every group is in every partition, looked at several times a second: how long nothing was committed where there
 * was something to commit.
 */
import type { ChildProcess } from "node:child_process"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import type postgres from "postgres"
import type { Foreign } from "./Foreign.ts"

/** Groups whose positions Kafka keeps, and those whose positions the database keeps, by what they read. */
export interface Groups {
  readonly kafka: Readonly<Record<string, ReadonlyArray<string>>>
  readonly database: Readonly<Record<string, ReadonlyArray<string>>>
  /** Topics that are written in transactions: their last offset is a marker, which a position need not have passed. */
  readonly transactional: ReadonlySet<string>
}

/** One partition of one group. */
interface Lane {
  readonly group: string
  readonly topic: string
  readonly partition: number
  position: number
  end: number
  /** When there was first something to commit after the last commit, or when that was; undefined without input. */
  since: number | undefined
  /** When the position was last seen to move. */
  moved: number
}

/** A time without a commit in a partition that had input. */
export interface Stop {
  readonly group: string
  readonly topic: string
  readonly partition: number
  readonly from: number
  readonly to: number
}

const every = 200

/** Shorter ones are not remembered. */
const leastStop = 500

export class Progress {
  readonly stops: Array<Stop> = []
  readonly #groups: Groups
  readonly #lanes = new Map<string, Lane>()
  readonly #watch: ChildProcess
  #isClosed = false
  /** Replicas that are not in sync. */
  away = 0
  #lookedAtReplicas = 0
  #lookedAtDatabase = 0

  constructor(groups: Groups, foreign: Foreign, sql: postgres.Sql) {
    this.#groups = groups
    const topics = [...new Set([...Object.values(groups.kafka), ...Object.values(groups.database)].flat())]
    const watch = foreign.run("watch", String(every), topics.join(","), Object.keys(groups.kafka).join(","))
    this.#watch = watch
    const lines = createInterface({ input: watch.stdout })
    lines.on("line", (line) => this.#hear(line))
    void this.#lookAtDatabase(sql)
  }

  close(): void {
    this.#isClosed = true
    this.#watch.kill("SIGKILL")
  }

  /** Where groups stand that have not read all there is. */
  get behind(): ReadonlyArray<
    { readonly group: string; readonly topic: string; readonly partition: number; readonly left: number }
  > {
    return this.#all().flatMap((lane) => this.#left(lane) > 0 ? [{ ...lane, left: lane.end - lane.position }] : [])
  }

  /** Whether the ends of all topics and the positions of all groups are known. */
  get isKnown(): boolean {
    const wanted = [...Object.entries(this.#groups.kafka), ...Object.entries(this.#groups.database)]
    const lanes = this.#all()
    return wanted.every(([group, topics]) =>
      topics.every((topic) => lanes.some((lane) => lane.group === group && lane.topic === topic && lane.end >= 0))
    )
  }

  /** Whether every partition that has input has moved since a time, every replica is in sync, and the news is fresh. */
  isWell(since: number): boolean {
    return this.away === 0 && this.#lookedAtReplicas > since && this.#lookedAtDatabase > since &&
      this.#all().every((lane) => lane.moved > since || this.#left(lane) <= 0)
  }

  /**
   * The longest time without a commit that touches a span; those that have not ended count until now. What was before the
   * span belongs to something else, but for a second.
   */
  longest(from: number, to: number): Stop | undefined {
    const open = this.#all().flatMap((lane): Array<Stop> =>
      lane.since === undefined ? [] : [{ ...lane, from: lane.since, to: Date.now() }]
    )
    return [...this.stops, ...open]
      .filter((stop) => stop.to >= from && stop.from <= to)
      .map((stop) => ({ ...stop, from: Math.max(stop.from, from - 1_000) }))
      .reduce<Stop | undefined>(
        (most, stop) => most === undefined || stop.to - stop.from > most.to - most.from ? stop : most,
        undefined,
      )
  }

  #all(): ReadonlyArray<Lane> {
    return [...this.#lanes.values()].filter(({ position }) => position >= 0)
  }

  #left(lane: Lane): number {
    return lane.end - lane.position - (this.#groups.transactional.has(lane.topic) ? 1 : 0)
  }

  #lane(group: string, topic: string, partition: number): Lane {
    const key = `${group} ${topic}/${partition}`
    let lane = this.#lanes.get(key)
    if (lane === undefined) {
      this.#lanes.set(key, lane = { group, topic, partition, position: -1, end: -1, since: undefined, moved: 0 })
    }
    return lane
  }

  #hear(line: string): void {
    const [time = "", what, ...rest] = line.split(" ")
    const at = Number(time)
    if (what === "away") {
      this.away = Number(rest[0])
      this.#lookedAtReplicas = at
    } else if (what === "ends") {
      for (const [topic, partition, end] of rest.map(parsed)) this.#end(at, topic, partition, end)
    } else if (what === "group") {
      const [group = "", ...positions] = rest
      for (const [topic, partition, position] of positions.map(parsed)) {
        this.#position(at, group, topic, partition, position)
      }
    }
  }

  #end(at: number, topic: string, partition: number, end: number): void {
    const groups = [...Object.entries(this.#groups.kafka), ...Object.entries(this.#groups.database)]
    for (const [group, topics] of groups) {
      if (!topics.includes(topic)) continue
      const lane = this.#lane(group, topic, partition)
      lane.end = Math.max(lane.end, end)
      if (lane.position < 0) continue
      if (lane.since === undefined && this.#left(lane) > 0) lane.since = at
    }
  }

  #position(at: number, group: string, topic: string, partition: number, position: number): void {
    const lane = this.#lane(group, topic, partition)
    if (position === lane.position) return
    lane.position = position
    lane.moved = at
    if (lane.since !== undefined && at - lane.since >= leastStop) {
      this.stops.push({ group, topic, partition, from: lane.since, to: at })
    }
    lane.since = this.#left(lane) > 0 ? at : undefined
  }

  async #lookAtDatabase(sql: postgres.Sql): Promise<void> {
    while (!this.#isClosed) {
      const began = Date.now()
      try {
        const rows = await sql<Array<{ group: string; topic: string; partition: number; next: string }>>`
          select "group", topic, partition, next from millrace_positions`
        const at = Date.now()
        for (const { group, topic, partition, next } of rows) {
          if (group in this.#groups.database) this.#position(at, group, topic, partition, Number(next))
        }
        this.#lookedAtDatabase = began
      } catch {
        // There is no such table before the first program made it, and no answer while the database is away.
      }
      await sleep(Math.max(10, began + every - Date.now()))
    }
  }
}

const parsed = (text: string): readonly [topic: string, partition: number, offset: number] => {
  const slash = text.lastIndexOf("/")
  const equals = text.lastIndexOf("=")
  return [text.slice(0, slash), Number(text.slice(slash + 1, equals)), Number(text.slice(equals + 1))]
}
