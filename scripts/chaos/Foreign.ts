/** Kafka's own client, in Java: what others see of the cluster. */
import { type ChildProcessByStdio, execFile, spawn } from "node:child_process"
import { join } from "node:path"
import { createInterface } from "node:readline"
import type { Readable, Writable } from "node:stream"
import { promisify } from "node:util"

const libs = join(import.meta.dirname, "../../.cache/kafka/libs-4.3.0/*")
const java = process.env["JAVA"] ?? "java"

export class Foreign {
  readonly #classes: string
  readonly #brokers: string

  private constructor(classes: string, brokers: string) {
    this.#classes = classes
    this.#brokers = brokers
  }

  /** Compiles the client into a directory; scripts/kafka must have fetched Kafka's jars before. */
  static async compile(directory: string, brokers: string): Promise<Foreign> {
    const classes = join(directory, "classes")
    const source = join(import.meta.dirname, "foreign/Foreign.java")
    await promisify(execFile)(java.replace(/java$/, "javac"), ["-d", classes, "-cp", libs, source])
    return new Foreign(classes, brokers)
  }

  run(command: string, ...args: ReadonlyArray<string>): ChildProcessByStdio<Writable, Readable, null> {
    const flags = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.level=error"]
    return spawn(java, [...flags, "-cp", `${this.#classes}:${libs}`, "Foreign", command, this.#brokers, ...args], {
      stdio: ["pipe", "pipe", "ignore"],
    })
  }

  /** The committed records of a topic, in the order of each partition. */
  async read(topic: string, fields: ReadonlyArray<string>, take: (record: Record) => void): Promise<void> {
    const reading = this.run("read", topic, fields.join(","))
    const ended = new Promise<number | null>((resolve) => reading.once("close", resolve))
    for await (const line of createInterface({ input: reading.stdout, crlfDelay: Infinity })) {
      const [partition = "", offset = "", reason = "", ...values] = line.split("\t")
      if (partition !== "end") take({ partition: Number(partition), offset: Number(offset), reason, values })
    }
    const code = await ended
    if (code !== 0) throw new Error(`Kafka's client could not read ${topic} (${code})`)
  }
}

export interface Record {
  readonly partition: number
  readonly offset: number
  /** Why it is a dead letter, if it is one. */
  readonly reason: string
  readonly values: ReadonlyArray<string>
}
