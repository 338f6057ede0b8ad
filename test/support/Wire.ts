/** A way to a server that a test can cut and block. */
import { Effect, type Scope } from "effect"
import { connect, createServer, type Server, type Socket } from "node:net"

export interface Wire {
  readonly port: number
  /** Ends all connections and refuses others. */
  readonly cut: Effect.Effect<void>
  /** Takes connections and bytes, and passes nothing on. */
  readonly block: Effect.Effect<void>
  /** Ends the next connection once its server has sent so many bytes, the last of which are passed on. */
  readonly cutAfter: (bytes: number) => void
  /** Passes on what was held, and takes connections again. */
  readonly mend: Effect.Effect<void>
}

class Forwarding {
  readonly #host: string
  readonly #to: number
  readonly #sockets = new Set<Socket>()
  #server: Server | undefined
  #isBlocked = false
  #cutAfter: number | undefined
  port = 0

  constructor(host: string, to: number) {
    this.#host = host
    this.#to = to
  }

  readonly mend = Effect.promise(async () => {
    this.#isBlocked = false
    for (const socket of this.#sockets) socket.resume()
    if (this.#server !== undefined) return
    const server = createServer((client) => this.#join(client, connect(this.#to, this.#host)))
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.port, "127.0.0.1", resolve))
    this.port = (server.address() as { readonly port: number }).port
  })

  readonly cut = Effect.sync(() => {
    this.#server?.close()
    this.#server = undefined
    for (const socket of this.#sockets) socket.destroy()
  })

  readonly block = Effect.sync(() => {
    this.#isBlocked = true
    for (const socket of this.#sockets) socket.pause()
  })

  readonly cutAfter = (bytes: number): void => {
    this.#cutAfter = bytes
  }

  #join(client: Socket, server: Socket): void {
    let left = this.#cutAfter ?? Number.POSITIVE_INFINITY
    this.#cutAfter = undefined
    for (const [from, to] of [[client, server], [server, client]] as const) {
      this.#sockets.add(from)
      from.on("data", (bytes: Buffer) => {
        if (from === client || (left -= bytes.length) > 0) to.write(bytes)
        else if (left + bytes.length > 0) to.end(bytes.subarray(0, left + bytes.length), () => from.destroy())
      }).on("error", () => {}).on("close", () => {
        this.#sockets.delete(from)
        to.destroy()
      })
      if (this.#isBlocked) from.pause()
    }
  }
}

export const to = (host: string, port: number): Effect.Effect<Wire, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const wire = new Forwarding(host, port)
      return Effect.as(wire.mend, wire)
    }),
    (wire) => wire.cut,
  )
