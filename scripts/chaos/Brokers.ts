/** Three brokers, by way of scripts/kafka, each with a disk of its own where this machine lets us mount one. */
import { execFile, execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync } from "node:fs"
import { open, statfs } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { promisify } from "node:util"
import { kafka, type Local } from "../../test/support/BrokerProcess.ts"

export const nodes = [1, 2, 3] as const

/** How the disk of a broker is made full. */
export type Disks =
  /** A file system of its own in a file, filled with another file. */
  | "loop"
  /** No mounting here: the process may not make its files larger, which fails its writes in the same place. */
  | "limit"

export class Brokers {
  readonly local: Local
  disks: Disks = "limit"
  readonly #options: ReadonlyArray<string>
  readonly #starting = new Set<Promise<unknown>>()
  #isStopping = false

  constructor(local: Local, settings: ReadonlyArray<string>) {
    this.local = local
    this.#options = ["--nodes", "3", "--proxied", ...settings.flatMap((setting) => ["--set", setting])]
  }

  /** `diskBytes` is the size of each broker's disk. */
  async start(diskBytes: number): Promise<void> {
    if (mountAll(this.local, diskBytes)) this.disks = "loop"
    await this.#start([])
  }

  /** As the programs know them: by way of the proxy. */
  get proxied(): string {
    return nodes.map((node) => `127.0.0.1:${this.local.port + 39 + node}`).join(",")
  }

  get direct(): string {
    return nodes.map((node) => `127.0.0.1:${this.local.port - 1 + node}`).join(",")
  }

  pid(node: number): number {
    return Number(readFileSync(join(this.local.dir, `node-${node}.pid`), "utf8"))
  }

  isRunning(node: number): boolean {
    try {
      process.kill(this.pid(node), 0)
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${this.pid(node)}/status`, "utf8"))
    } catch {
      return false
    }
  }

  signal(node: number, signal: NodeJS.Signals): void {
    try {
      process.kill(this.pid(node), signal)
    } catch {
      // It has ended.
    }
  }

  async kill(node: number): Promise<void> {
    this.signal(node, "SIGKILL")
    while (this.isRunning(node)) await sleep(20)
  }

  async restart(node: number): Promise<void> {
    await this.#start(["--only", String(node)])
  }

  /** The script gives up after a minute; what has started by then goes on starting. */
  async #start(more: ReadonlyArray<string>): Promise<void> {
    for (let left = 3; !this.#isStopping; left--) {
      const starting = kafka("start", this.local, [...this.#options, ...more])
      this.#starting.add(starting)
      try {
        await starting
        return
      } catch (error) {
        if (left === 0) throw error
      } finally {
        this.#starting.delete(starting)
      }
    }
  }

  /** Leaves no room on a broker's disk, and answers what gives it back. */
  async fill(node: number): Promise<() => void> {
    if (this.disks === "limit") {
      execFileSync("prlimit", ["--pid", String(this.pid(node)), "--fsize=0:unlimited"])
      return () => {
        if (this.isRunning(node)) {
          execFileSync("prlimit", ["--pid", String(this.pid(node)), "--fsize=unlimited:unlimited"])
        }
      }
    }
    const directory = join(this.local.dir, `data-${node}`)
    const file = join(directory, "filling.tmp")
    await reserve(directory, file)
    // What is left are the last blocks, which others would find.
    const rest = await open(file, "a")
    for (let size = 64 * 1024; size >= 512;) {
      const isWritten = await rest.write(Buffer.alloc(size)).then(() => true, () => false)
      if (!isWritten) size >>= 1
    }
    await rest.close().catch(() => {})
    return () => rmSync(file, { force: true })
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    for (const node of nodes) this.signal(node, "SIGCONT")
    // A script that is starting one ends when that one has ended.
    do {
      for (const node of nodes) await this.kill(node).catch(() => {})
      await Promise.race([Promise.allSettled(this.#starting), sleep(200)])
    } while (this.#starting.size > 0)
    for (const node of nodes) await this.kill(node).catch(() => {})
    await kafka("stop", this.local)
    if (this.disks === "loop") { for (const node of nodes) unmount(join(this.local.dir, `data-${node}`)) }
  }
}

/** Takes nearly all that is free, without writing it. */
const reserve = async (directory: string, file: string): Promise<void> => {
  let size = 0
  for (let part = 1; part > 0.01;) {
    const { bavail, bsize } = await statfs(directory)
    const wanted = Math.floor(bavail * bsize * part)
    if (wanted < 1024 * 1024) return
    const isTaken = await promisify(execFile)("fallocate", ["-o", String(size), "-l", String(wanted), file])
      .then(() => true, () => false)
    if (isTaken) size += wanted
    else part /= 2
  }
}

const mountAll = ({ dir }: Local, bytes: number): boolean => {
  const mounted: Array<string> = []
  try {
    for (const node of nodes) {
      const image = join(dir, `disk-${node}.img`)
      const directory = join(dir, `data-${node}`)
      mkdirSync(directory, { recursive: true })
      execFileSync("truncate", ["-s", String(bytes), image], { stdio: "ignore" })
      execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", "-O", "^has_journal", image], { stdio: "ignore" })
      execFileSync("mount", ["-o", "loop,noatime", image, directory], { stdio: "ignore" })
      mounted.push(directory)
      rmSync(join(directory, "lost+found"), { recursive: true, force: true })
    }
    return true
  } catch {
    for (const directory of mounted) unmount(directory)
    return false
  }
}

const unmount = (directory: string): void => {
  try {
    execFileSync("umount", ["-l", directory], { stdio: "ignore" })
  } catch {
    // It was not mounted.
  }
}
