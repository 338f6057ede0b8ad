/** Ports for servers of a test's own. */
import { createServer } from "node:net"

/** A port of this machine that nobody listens at. */
export const free = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer().once("error", reject).listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })
