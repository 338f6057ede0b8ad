/** Everything that is broken and what does not notice: servers, programs, network, in a directory that is gone afterwards. */
import { mkdirSync } from "node:fs"
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { place } from "../../test/support/BrokerProcess.ts"
import * as Ports from "../../test/support/Ports.ts"
import { Brokers, nodes } from "./Brokers.ts"
import { Database } from "./Database.ts"
import type { Site } from "./Faults.ts"
import { Foreign } from "./Foreign.ts"
import { Network } from "./Network.ts"
import type { Options } from "./Options.ts"
import { type OwnEnd, Program } from "./Programs.ts"
import type { Listener } from "./Rules.ts"

/** Of each program so many processes. */
const processes = 2
const names = ["collect", "enrich", "aggregate", "store"] as const

/** The size of a broker's disk; only what is written takes room on this machine. */
const diskBytes = 16 * 1024 ** 3

export class Setting implements Site {
  readonly programs: ReadonlyArray<Program>
  readonly ownEnds: Array<OwnEnd> = []
  readonly complaints: Array<string> = []
  readonly notes: Array<string> = []
  readonly scale: number
  readonly directory: string
  readonly brokers: Brokers
  readonly database: Database
  readonly network: Network
  readonly foreign: Foreign
  readonly collectors: ReadonlyArray<number>
  readonly #extras: Array<Program> = []
  readonly #spec: (name: string, program: string) => ConstructorParameters<typeof Program>[0]

  private constructor(
    brokers: Brokers,
    database: Database,
    network: Network,
    foreign: Foreign,
    ports: { readonly collectors: ReadonlyArray<number>; readonly stores: ReadonlyMap<string, number> },
    options: Options,
  ) {
    this.brokers = brokers
    this.database = database
    this.network = network
    this.foreign = foreign
    this.directory = brokers.local.dir
    this.scale = options.quick ? 0.4 : 1
    this.collectors = ports.collectors
    const quick: Record<string, string> = options.quick
      ? { SESSION_TIMEOUT: "3 seconds", DATABASE_LOCK_TIMEOUT: "2 seconds" }
      : {}
    this.#spec = (name, program) => ({
      name,
      program,
      env: {
        KAFKA_BROKERS: brokers.proxied,
        KAFKA_CLIENT_ID: name,
        HOST: "127.0.0.1",
        // Every first one goes on under its old name when it is started again, the others are new members.
        ...program !== "collect" && name.endsWith("-1") && { INSTANCE_ID: name },
        ...quick,
        ...options.settings,
        ...program === "collect" && { PORT: String(ports.collectors[Number(name.split("-")[1]) - 1]) },
        ...program === "store" && { DATABASE_URL: database.urlAt(ports.stores.get(name) ?? database.port) },
      },
    })
    this.programs = names.flatMap((program) =>
      Array.from({ length: processes }, (_, i) => this.#program(`${program}-${i + 1}`, program))
    )
  }

  static async open(options: Options, undo: (step: () => Promise<void> | void) => void): Promise<Setting> {
    // What lives shortly is not worth much compiling.
    if (options.quick) process.env["JAVA_TOOL_OPTIONS"] ??= "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    const local = await place()
    undo(() => options.keep ? undefined : rm(local.dir, { recursive: true, force: true }))
    const quick = options.quick ? ["group.min.session.timeout.ms=1000", "broker.session.timeout.ms=3000"] : []
    const brokers = new Brokers(local, quick)
    undo(() => brokers.stop())
    const startingDatabase = Database.start()
    undo(async () => await (await startingDatabase).stop())
    const [database] = await Promise.all([startingDatabase, brokers.start(diskBytes)])
    const stores = new Map<string, number>()
    for (let i = 1; i <= processes; i++) stores.set(`store-${i}`, await Ports.free())
    const listeners: ReadonlyArray<Listener> = [
      ...nodes.map((node) => ({
        port: local.port + 39 + node,
        target: local.port + 29 + node,
        server: `broker ${node}`,
      })),
      ...Array.from(stores, ([program, port]) => ({ port, target: database.port, server: "database", program })),
    ]
    const network = await Network.open(listeners)
    undo(() => network.close())
    const collectors: Array<number> = []
    for (let i = 0; i < processes; i++) collectors.push(await Ports.free())
    const foreign = await Foreign.compile(local.dir, brokers.direct)
    const setting = new Setting(brokers, database, network, foreign, { collectors, stores }, options)
    undo(() => setting.#endAll())
    for (const program of setting.programs) program.start()
    await Promise.all(collectors.map(answers))
    return setting
  }

  extra(program: string): Program {
    const extra = this.#program(`${program}-${processes + 1 + this.#extras.length}`, program)
    this.#extras.push(extra)
    return extra
  }

  complain(what: string): void {
    this.complaints.push(what)
  }

  note(what: string): void {
    this.notes.push(what)
  }

  /** Stops all programs as an operator does, and answers how they ended. */
  async stopPrograms(): Promise<ReadonlyArray<readonly [name: string, how: string]>> {
    return await Promise.all(
      this.programs.map(async (program) => [program.spec.name, await program.end("SIGTERM")] as const),
    )
  }

  async #endAll(): Promise<void> {
    await Promise.all([...this.programs, ...this.#extras].map((program) => program.close()))
  }

  #program(name: string, program: string): Program {
    const logs = join(this.directory, "programs")
    mkdirSync(logs, { recursive: true })
    return new Program(this.#spec(name, program), logs, (end) => this.ownEnds.push(end))
  }
}

const answers = async (port: number): Promise<void> => {
  for (let left = 1_200; left > 0; left--) {
    const status = await fetch(`http://127.0.0.1:${port}/readyz`).then((answer) => answer.status, () => 0)
    if (status === 200) return
    await sleep(100)
  }
  throw new Error(`no collector answers at port ${port}`)
}
