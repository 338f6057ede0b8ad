/** Redis as a process of a test's own. */
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"

const binary = (): string | undefined =>
  (process.env["PATH"] ?? "").split(":").map((directory) => join(directory, "redis-server")).find(existsSync)

export const whyNoRedis = (): string | undefined =>
  binary() === undefined ? "redis-server is needed, and it is not here" : undefined

export interface Running {
  /** Holds it as it stands: it takes connections and bytes, and answers nothing. */
  readonly freeze: () => void
  readonly thaw: () => void
  readonly stop: () => Promise<void>
}

const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy()
      resolve(true)
    }).once("error", () => resolve(false))
  })

/** Starts a server in memory only, and waits until it takes connections. */
export const start = async (port: number, password?: string): Promise<Running> => {
  const server = spawn(binary()!, [
    ...["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
    ...password === undefined ? [] : ["--requirepass", password],
  ], { stdio: "ignore" })
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()))
  for (let left = 200; !await answers(port); left--) {
    if (left === 0 || server.exitCode !== null) throw new Error("Redis does not answer")
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return {
    freeze: () => server.kill("SIGSTOP"),
    thaw: () => server.kill("SIGCONT"),
    stop: async () => {
      server.kill("SIGCONT")
      server.kill("SIGTERM")
      await ended
    },
  }
}
