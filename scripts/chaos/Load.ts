/**
 * Sends the messages of a run to the collectors at their pace, and keeps account of what was answered.
 *
 * A sender has one request under way at a time, and goes on with its next batch when the last one was answered with 200 or
 * given up. What was not answered with 200 is sent again with the same ids, to another collector: one batch in five
 * only once more, and then it is given up. Some that were answered are sent again all the same, as trackers do whose
 * answer was lost.
 */
import { Agent, request } from "node:http"
import { setTimeout as sleep } from "node:timers/promises"
import { chance, due, message, type Run } from "./Clicks.ts"

/** What is known of a message. */
export const unsent = 0
/** Sent, and never answered with 200. */
export const unknown = 1
export const answered = 2

/** In milliseconds; the collector answers before. */
const patience = 12_000

const giveUpOneIn = 5
const repeatOneIn = 100

const hash = { giveUp: 10, repeat: 11 }

export interface Figures {
  sent: number
  answered: number
  unknown: number
  requests: number
  /** Requests by what came of them: a status, or why there was none. */
  readonly outcomes: Map<string, number>
  /** Batches that were sent again although they were answered. */
  repeated: number
}

export class Load {
  readonly run: Run
  readonly ports: ReadonlyArray<number>
  /** By message. */
  readonly state: Uint8Array
  /** How often a message was sent. */
  readonly times: Uint8Array
  readonly figures: Figures = { sent: 0, answered: 0, unknown: 0, requests: 0, outcomes: new Map(), repeated: 0 }
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 256 })
  #stopped = false

  constructor(run: Run, ports: ReadonlyArray<number>, most: number) {
    this.run = run
    this.ports = ports
    this.state = new Uint8Array(most)
    this.times = new Uint8Array(most)
  }

  /** Sends until told to stop, or until all that there is room for is sent; ends when everything is answered or given up. */
  async send(): Promise<void> {
    await Promise.all(Array.from({ length: this.run.lanes }, (_, lane) => this.#lane(lane)))
    this.#agent.destroy()
  }

  /** Begins no more batches; senders that are behind leave out what was due. */
  stop(): void {
    this.#stopped = true
  }

  async #lane(lane: number): Promise<void> {
    const { batch, lanes, seed } = this.run
    for (let first = lane * batch; first + batch <= this.state.length; first += lanes * batch) {
      const wait = due(this.run, first + batch - 1) - Date.now()
      if (wait > 0 && !this.#stopped) await sleep(wait)
      if (this.#stopped) return
      const number = first / batch
      const body = JSON.stringify({ batch: Array.from({ length: batch }, (_, j) => message(this.run, first + j)) })
      const mayGiveUp = chance(seed, number, hash.giveUp) % giveUpOneIn === 0
      const isTaken = await this.#deliver(body, first, mayGiveUp)
      this.state.fill(isTaken ? answered : unknown, first, first + batch)
      this.figures.sent += batch
      this.figures[isTaken ? "answered" : "unknown"] += batch
      if (isTaken && chance(seed, number, hash.repeat) % repeatOneIn === 0) {
        this.figures.repeated++
        this.#count(first)
        await this.#post(this.#port(number + 1), body)
      }
    }
  }

  async #deliver(body: string, first: number, mayGiveUp: boolean): Promise<boolean> {
    const number = first / this.run.batch
    for (let attempt = 0;; attempt++) {
      this.#count(first)
      const status = await this.#post(this.#port(number + attempt), body)
      if (status === "200") return true
      if (mayGiveUp && attempt === 1) return false
      await sleep(Math.min(1_000, 100 * 2 ** attempt))
    }
  }

  #count(first: number): void {
    for (let i = first; i < first + this.run.batch; i++) if (this.times[i]! < 255) this.times[i]!++
  }

  #port(number: number): number {
    return this.ports[number % this.ports.length]!
  }

  async #post(port: number, body: string): Promise<string> {
    const outcome = await new Promise<string>((resolve) => {
      const sent = request({
        host: "127.0.0.1",
        port,
        path: "/v1/batch",
        method: "POST",
        agent: this.#agent,
        timeout: patience,
        headers: {
          "x-write-key": "demo",
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        },
      }, (answer) => {
        answer.resume()
        answer.on("end", () => resolve(String(answer.statusCode)))
        answer.on("error", (error) => resolve(codeOf(error)))
      })
      sent.on("timeout", () => sent.destroy(Object.assign(new Error("no answer"), { code: "no answer" })))
      sent.on("error", (error) => resolve(codeOf(error)))
      sent.end(body)
    })
    this.figures.requests++
    this.figures.outcomes.set(outcome, (this.figures.outcomes.get(outcome) ?? 0) + 1)
    return outcome
  }
}

const codeOf = (error: Error): string => "code" in error ? String(error.code) : error.message
