/** Apache Kafka as a process, by way of `scripts/kafka/kafka`. */
import { execFile } from "node:child_process"
import { mkdtemp } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface Local {
  readonly dir: string
  readonly port: number
}

const script = join(import.meta.dirname, "../../scripts/kafka/kafka")

const execute = (command: string, args: ReadonlyArray<string>): Promise<string> =>
  new Promise((resolve, reject) =>
    execFile(command, args, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim())
      else reject(new Error(`${command} ${args.join(" ")}: ${stderr.trim()}`, { cause: error }))
    })
  )

export const kafka = (
  command: "start" | "stop",
  { dir, port }: Local,
  options: ReadonlyArray<string> = [],
): Promise<string> => execute(script, [command, "--dir", dir, "--port", String(port), ...options])

export const whyNoJava = (): Promise<string | undefined> =>
  execute(process.env["JAVA"] ?? "java", ["-version"]).then(
    () => undefined,
    () => "Java 17 is needed to run Apache Kafka, and there is none",
  )

/** A directory and a port with which all ports that a broker needs are free. */
export const place = async (): Promise<Local> => {
  const dir = await mkdtemp(join(tmpdir(), "millrace-kafka-"))
  for (;;) {
    const port = await free(0)
    const others = [0, 10, 20, 30, 40].flatMap((listener) => [0, 1, 2].map((node) => listener + node)).map((offset) =>
      free(port + offset)
    )
    if (port < 65_000 && (await Promise.all(others)).every((one) => one > 0)) return { dir, port }
  }
}

/** The port, or one that the system chooses for 0; -1 where it is taken. */
const free = (port: number): Promise<number> =>
  new Promise((resolve) => {
    const server = createServer()
    server.once("error", () => resolve(-1))
    server.listen(port, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : -1))
    })
  })
