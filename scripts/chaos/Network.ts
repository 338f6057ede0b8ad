/** The network between programs and servers, which can be cut and slowed. */
import { type ChildProcess, fork } from "node:child_process"
import { join } from "node:path"
import type { Command, Listener, Rule } from "./Rules.ts"

export class Network {
  readonly #proxy: ChildProcess
  #said: Promise<void> = Promise.resolve()
  #numbers = 0

  private constructor(proxy: ChildProcess) {
    this.#proxy = proxy
  }

  static async open(listeners: ReadonlyArray<Listener>): Promise<Network> {
    const network = new Network(
      fork(join(import.meta.dirname, "proxy.ts"), { stdio: ["ignore", "inherit", "inherit", "ipc"] }),
    )
    await network.#tell({ type: "listen", listeners })
    return network
  }

  /** Answers what ends the rule. */
  async set(rule: Omit<Rule, "number">): Promise<() => Promise<void>> {
    const number = ++this.#numbers
    await this.#tell({ type: "add", rule: { ...rule, number } })
    return () => this.#tell({ type: "remove", number })
  }

  close(): void {
    this.#proxy.kill("SIGKILL")
  }

  #tell(command: Command): Promise<void> {
    const told = this.#said.then(() =>
      new Promise<void>((resolve, reject) => {
        const ended = () => reject(new Error("the proxy has ended"))
        this.#proxy.once("exit", ended)
        this.#proxy.once("message", () => {
          this.#proxy.off("exit", ended)
          resolve()
        })
        this.#proxy.send(command)
      })
    )
    this.#said = told.catch(() => {})
    return told
  }
}
