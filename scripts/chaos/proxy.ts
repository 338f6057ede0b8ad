/**
 * The network between programs and servers: passes bytes on, unless a rule says otherwise. A process of its own, so that
 * nothing else delays what passes; told what to do by its parent.
 */
import { createConnection, createServer, type Socket } from "node:net"
import { applies, type Command, type Effect, type Listener, type Rule } from "./Rules.ts"

const rules = new Map<number, Rule>()
const links = new Set<Link>()

/** So many bytes may be on their way in one direction. */
const window = 1024 * 1024

/** One direction of a connection. */
class Pipe {
  readonly #from: Socket
  readonly #to: Socket
  readonly #queue: Array<{ readonly bytes: Buffer; readonly due: number }> = []
  #queued = 0
  #busyUntil = 0
  #timer: NodeJS.Timeout | undefined
  #held = false
  #slow: Extract<Effect, { type: "slow" }> | undefined

  constructor(from: Socket, to: Socket) {
    this.#from = from
    this.#to = to
    from.on("data", (bytes: Buffer) => this.#take(bytes))
    to.on("drain", () => this.#pace())
  }

  set(held: boolean, slow: Extract<Effect, { type: "slow" }> | undefined): void {
    this.#held = held
    this.#slow = slow
    this.#pace()
    this.#flush()
  }

  #take(bytes: Buffer): void {
    if (this.#queue.length === 0 && !this.#held && this.#slow === undefined) {
      this.#to.write(bytes)
    } else {
      const now = Date.now()
      const { latency, rate } = this.#slow ?? { latency: 0, rate: Infinity }
      this.#busyUntil = Math.max(now, this.#busyUntil) + bytes.length / rate * 1_000
      this.#queue.push({ bytes, due: this.#busyUntil + latency })
      this.#queued += bytes.length
      this.#flush()
    }
    this.#pace()
  }

  #pace(): void {
    if (this.#held || this.#queued > window || this.#to.writableNeedDrain) this.#from.pause()
    else this.#from.resume()
  }

  #flush(): void {
    if (this.#held || this.#timer !== undefined) return
    const now = Date.now()
    let sent = 0
    while (sent < this.#queue.length && (this.#slow === undefined || this.#queue[sent]!.due <= now)) {
      const { bytes } = this.#queue[sent++]!
      this.#queued -= bytes.length
      this.#to.write(bytes)
    }
    this.#queue.splice(0, sent)
    const next = this.#queue[0]
    if (next !== undefined) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined
        this.#flush()
        this.#pace()
      }, Math.max(1, next.due - now))
    }
  }
}

class Link {
  readonly #client: Socket
  readonly #target: Socket
  readonly #server: string
  #program: string | undefined
  readonly #up: Pipe
  readonly #down: Pipe
  #isDeaf = false

  constructor(client: Socket, { target, server, program }: Listener) {
    this.#client = client
    this.#server = server
    this.#program = program
    this.#target = createConnection({ host: "127.0.0.1", port: target, noDelay: true })
    client.setNoDelay(true)
    if (program === undefined) {
      client.once("data", (bytes: Buffer) => {
        this.#program = clientOf(bytes) ?? "unknown"
        this.apply()
      })
    }
    this.#up = new Pipe(client, this.#target)
    this.#down = new Pipe(this.#target, client)
    for (const socket of [client, this.#target]) {
      socket.on("error", () => this.close())
      socket.on("close", () => this.close())
    }
    links.add(this)
    this.apply()
  }

  apply(): void {
    if (this.#program === undefined) return
    const effects: Array<Effect> = []
    for (const rule of rules.values()) {
      if (applies(rule, this.#program, this.#server)) effects.push(rule.effect)
    }
    const isDeaf = effects.some(({ type }) => type === "deaf")
    if (effects.some(({ type }) => type === "refuse") || this.#isDeaf && !isDeaf) return this.close()
    this.#isDeaf = isDeaf
    const silent = effects.some(({ type }) => type === "silence")
    const slow = effects.find((effect) => effect.type === "slow")
    this.#up.set(silent, slow)
    this.#down.set(silent || isDeaf, slow)
  }

  close(): void {
    if (!links.delete(this)) return
    this.#client.resetAndDestroy()
    this.#target.resetAndDestroy()
  }
}

/** The client id in the first request of a Kafka connection: size, key, version and number stand before it. */
const clientOf = (bytes: Buffer): string | undefined => {
  if (bytes.length < 14) return undefined
  const length = bytes.readInt16BE(12)
  return length < 0 || bytes.length < 14 + length ? undefined : bytes.toString("utf8", 14, 14 + length)
}

const listen = (listener: Listener): Promise<void> =>
  new Promise((resolve, reject) => {
    createServer((client) => new Link(client, listener))
      .once("error", reject)
      .listen(listener.port, "127.0.0.1", () => resolve())
  })

process.on("message", async (command: Command) => {
  if (command.type === "listen") await Promise.all(command.listeners.map(listen))
  else {
    if (command.type === "add") rules.set(command.rule.number, command.rule)
    else rules.delete(command.number)
    for (const link of [...links]) link.apply()
  }
  process.send?.("done")
})
process.on("disconnect", () => process.exit(0))
