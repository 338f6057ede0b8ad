/**
 * Followers that lag: what a leader has appended is acknowledged, and read, only once they have it too. A broker that dies
 * before takes it along: its partitions go on where the followers stand, under another leader where there is one, and who
 * waited for an acknowledgement hears of a broken connection. Markers that are lost are written again, as the transaction
 * coordinator does, which knows the decision.
 */
import { Exit } from "effect"
import type { ProduceRequest, ProduceResult, ProducerIdentity } from "../Cluster.ts"
import type { Reply } from "./Group.ts"
import type { Log } from "./Log.ts"
import { Refusal } from "./Refusal.ts"
import type { Timer, Timers } from "./Timers.ts"
import type { Topics } from "./Topics.ts"
import type { Decision } from "./Transactions.ts"

interface Marker {
  readonly producer: ProducerIdentity
  readonly decision: Decision
  /** Where its transaction begins in the partition. */
  readonly began: number | undefined
}

interface Pending {
  readonly from: number
  readonly timer: Timer
  readonly marker?: Marker
}

interface Waiting {
  readonly node: number
  readonly timer: Timer
  readonly reply: Reply<ReadonlyArray<ProduceResult>>
}

export class Replication {
  readonly #timers: Timers
  readonly #lag: number
  readonly #pending = new Map<Log, Array<Pending>>()
  readonly #waiting = new Set<Waiting>()

  /** `lag` in milliseconds; without one all of this costs nothing. */
  constructor(timers: Timers, lag: number) {
    this.#timers = timers
    this.#lag = lag
  }

  get isImmediate(): boolean {
    return this.#lag <= 0
  }

  /** Holds back what was appended from `from` on until followers have it. */
  appended(log: Log, from: number, now: number, marker?: Marker): void {
    if (this.isImmediate || from >= log.end) return
    const pending = this.#pending.get(log) ?? []
    this.#pending.set(log, pending)
    const timer = this.#timers.schedule(now + this.#lag, () => {
      pending.shift()
      tell(log, pending)
    })
    pending.push({ from, timer, ...marker !== undefined && { marker } })
    tell(log, pending)
  }

  /** Acknowledges what was produced once followers have it. */
  acknowledge(
    { node }: ProduceRequest,
    results: ReadonlyArray<ProduceResult>,
    now: number,
    reply: Waiting["reply"],
  ): void {
    const waiting: Waiting = {
      node,
      reply,
      timer: this.#timers.schedule(now + this.#lag, () => {
        this.#waiting.delete(waiting)
        reply(Exit.succeed(results))
      }),
    }
    this.#waiting.add(waiting)
  }

  /** Answers how many batches and markers were lost. */
  restart(topics: Topics, node: number, now: number): number {
    let lost = 0
    for (const name of topics.names) {
      for (const partition of topics.partitions(name)) {
        if (partition.leader !== node) continue
        lost += this.#lose(partition.log, now)
        const { replicas } = partition
        topics.lead(partition, replicas[(replicas.indexOf(node) + 1) % replicas.length]!)
      }
    }
    for (const waiting of [...this.#waiting]) {
      if (waiting.node !== node) continue
      this.#timers.cancel(waiting.timer)
      this.#waiting.delete(waiting)
      waiting.reply(Exit.fail(new Refusal("NETWORK", `broker ${node} is gone`)))
    }
    return lost
  }

  #lose(log: Log, now: number): number {
    const pending = this.#pending.get(log)?.splice(0) ?? []
    if (pending.length === 0) return 0
    for (const { timer } of pending) this.#timers.cancel(timer)
    log.replicated(undefined)
    log.truncate(pending[0]!.from, now)
    for (const { marker } of pending) {
      if (marker === undefined) continue
      const from = log.end
      const began = log.mark(marker.producer.producerId, marker.producer.producerEpoch, marker.decision, now)
      this.appended(log, from, now, { ...marker, began })
    }
    return pending.length
  }
}

const tell = (log: Log, pending: ReadonlyArray<Pending>): void =>
  log.replicated(pending[0]?.from, Math.min(...pending.map(({ marker }) => marker?.began ?? Infinity)))
