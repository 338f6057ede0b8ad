/** The job as a loop by hand on the client: no schema, no log of the state, no transactions. `loop.ts BROKERS RUN` */
import { Consumer, MessagesStreamFallbackModes, MessagesStreamModes, ProduceAcks, Producer } from "@platformatic/kafka"
import { Buffer } from "node:buffer"
import { isClick, joinSession, type Session } from "../job.ts"

const [brokers = "", run = ""] = process.argv.slice(2)
const client = { clientId: run, bootstrapBrokers: brokers.split(",") }

interface Record {
  readonly partition: number
  readonly key: Buffer
  readonly value: Buffer
}

interface Out {
  readonly topic: string
  readonly key: Buffer
  readonly value: Buffer
}

/** Reads a topic, and every 100 ms writes what its records led to and commits. */
const pump = async (topic: string, handle: (record: Record) => void, take: () => Array<Out>) => {
  const consumer = new Consumer({ ...client, groupId: `${run}-${topic}` })
  const producer = new Producer({ ...client, idempotent: true, acks: ProduceAcks.ALL })
  const stream = await consumer.consume({
    topics: [topic],
    autocommit: false,
    mode: MessagesStreamModes.COMMITTED,
    fallbackMode: MessagesStreamFallbackModes.EARLIEST,
    maxWaitTime: 100,
    highWaterMark: 8_192,
  })
  let positions = new Map<number, bigint>()
  let flushing: Promise<void> | undefined
  const flush = async () => {
    const offsets = Array.from(positions, ([partition, offset]) => ({ topic, partition, offset, leaderEpoch: 0 }))
    if (offsets.length === 0) return
    const messages = take()
    positions = new Map()
    for (let i = 0; i < messages.length; i += 2_000) await producer.send({ messages: messages.slice(i, i + 2_000) })
    await consumer.commit({ offsets })
  }
  setInterval(() => flushing ??= flush().finally(() => flushing = undefined), 100)
  stream.on("data", (message) => {
    handle(message)
    positions.set(message.partition, message.offset + 1n)
    // What is read and not written must not grow without end.
    if (flushing === undefined || stream.isPaused()) return
    stream.pause()
    flushing.then(() => stream.resume())
  })
}

const enrich = () => {
  const seen = new Map<number, Map<string, number>>()
  const sessions = new Map<string, Array<Session>>()
  const times = new Map<number, number>()
  let out: Array<Out> = []
  return pump("raw", ({ partition, key, value }) => {
    let click: unknown
    try {
      click = JSON.parse(value.toString())
    } catch {
      click = undefined
    }
    if (!isClick(click)) return void out.push({ topic: `${run}-dlt`, key, value })
    const time = Math.max(times.get(partition) ?? 0, click.at)
    times.set(partition, time)
    let ids = seen.get(partition)
    if (ids === undefined) seen.set(partition, ids = new Map())
    if (ids.has(click.eventId)) return
    ids.set(click.eventId, time)
    const user = key.toString()
    let own = sessions.get(user)
    if (own === undefined) sessions.set(user, own = [])
    const session = joinSession(own, time, user, click)
    if (session === undefined) return
    out.push({ topic: `${run}-enriched`, key, value: Buffer.from(JSON.stringify({ ...click, session })) })
  }, () => {
    const taken = out
    out = []
    return taken
  })
}

const count = () => {
  const counts = new Map<string, { user: string; minute: number; clicks: number }>()
  let changed = new Set<string>()
  return pump(`${run}-enriched`, ({ key, value }) => {
    const { at } = JSON.parse(value.toString()) as { at: number }
    const user = key.toString()
    const minute = at - at % 60_000
    const id = `${user}@${minute}`
    const known = counts.get(id)
    if (known === undefined) counts.set(id, { user, minute, clicks: 1 })
    else known.clicks++
    changed.add(id)
  }, () => {
    const messages = Array.from(changed, (id) => ({
      topic: `${run}-counts`,
      key: Buffer.from(id),
      value: Buffer.from(JSON.stringify(counts.get(id))),
    }))
    changed = new Set()
    return messages
  })
}

process.on("SIGTERM", () => process.exit(0))
await Promise.all([enrich(), count()])
