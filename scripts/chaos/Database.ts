/** A Postgres of the run's own, which can be frozen and made to crash. */
import { readFileSync } from "node:fs"
import postgres from "postgres"
import * as DatabaseProcess from "../../test/support/DatabaseProcess.ts"

export class Database {
  readonly url: URL
  readonly sql: postgres.Sql
  readonly #running: DatabaseProcess.Running

  private constructor(running: DatabaseProcess.Running) {
    this.#running = running
    this.url = new URL(running.url)
    this.sql = postgres(running.url, { max: 4, onnotice: () => {}, connection: { application_name: "chaos" } })
  }

  static async start(): Promise<Database> {
    return new Database(
      await DatabaseProcess.start(["max_connections=300", "max_wal_size=4GB", "shared_buffers=256MB"]),
    )
  }

  get port(): number {
    return Number(this.url.port)
  }

  /** The address by way of another port. */
  urlAt(port: number): string {
    const url = new URL(this.url)
    url.port = String(port)
    return url.href
  }

  /** The server and all its processes. */
  signalAll(signal: NodeJS.Signals): void {
    const { pid } = this.#running
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(/\s+/)
    for (const one of [pid, ...children.filter((text) => text !== "").map(Number)]) signalOne(one, signal)
  }

  /** A process that works for one of the programs. */
  async backend(choose: (pids: ReadonlyArray<number>) => number): Promise<number> {
    const rows = await this.sql<Array<{ pid: number }>>`
      select pid from pg_stat_activity where application_name = 'millrace' order by backend_start, pid`
    return choose(rows.map(({ pid }) => pid))
  }

  async stop(): Promise<void> {
    this.signalAll("SIGCONT")
    await this.sql.end({ timeout: 1 })
    await this.#running.stop()
  }
}

export const signalOne = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It has ended.
  }
}
