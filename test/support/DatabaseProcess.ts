/** PostgreSQL as a process of the test run's own. */
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { chownSync, existsSync, mkdtempSync, readdirSync } from "node:fs"
import { rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Ports from "./Ports.ts"

export interface Running {
  readonly url: string
  /** Of the process that all others of the server come from. */
  readonly pid: number
  readonly stop: () => Promise<void>
}

const directories = (): ReadonlyArray<string> => {
  const debian = "/usr/lib/postgresql"
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  return [...versions.map((version) => join(debian, version, "bin")), ...(process.env["PATH"] ?? "").split(":")]
}

const binaries = (): string | undefined =>
  directories().find((directory) => existsSync(join(directory, "initdb")) && existsSync(join(directory, "postgres")))

export const whyNoPostgres = (): string | undefined =>
  binaries() === undefined ? "PostgreSQL's programs initdb and postgres are needed, and they are not here" : undefined

/** PostgreSQL refuses to run as root. */
const asWhom = (): { readonly uid: number; readonly gid: number } | undefined => {
  if (process.getuid?.() !== 0) return undefined
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }))
  return { uid: id("-u"), gid: id("-g") }
}

/** Without durability, which tests do not need. */
const fast = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"]

/** Starts a server and waits until it answers. */
export const start = async (settings: ReadonlyArray<string> = fast): Promise<Running> => {
  const bin = binaries()
  if (bin === undefined) throw new Error(whyNoPostgres())
  const whom = asWhom()
  const dir = mkdtempSync(join(tmpdir(), "millrace-postgres-"))
  if (whom !== undefined) chownSync(dir, whom.uid, whom.gid)
  const data = join(dir, "data")
  execFileSync(join(bin, "initdb"), ["-D", data, "-A", "trust", "-U", "millrace", "--no-sync"], {
    ...whom,
    stdio: "ignore",
    cwd: dir,
  })
  const port = await Ports.free()
  const server = spawn(
    join(bin, "postgres"),
    ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", dir, ...settings.flatMap((one) => ["-c", one])],
    { ...whom, stdio: "ignore", cwd: dir },
  )
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()))
  for (
    let left = 600;
    spawnSync(join(bin, "pg_isready"), ["-h", "127.0.0.1", "-p", String(port)]).status !== 0;
    left--
  ) {
    if (left === 0 || server.exitCode !== null) {
      server.kill("SIGKILL")
      throw new Error("PostgreSQL does not answer")
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return {
    url: `postgres://millrace@127.0.0.1:${port}/postgres`,
    pid: server.pid!,
    stop: async () => {
      server.kill("SIGINT")
      await ended
      await rm(dir, { recursive: true, force: true })
    },
  }
}
