/** What lies between all programs of a run and the brokers: one plan of faults, and one log of the calls. */
import * as Faults from "../kafka/Faults.ts"

/** One call of a program to the brokers: `count` and `step` are those among the calls of all programs. */
export interface Call extends Faults.Call {
  readonly pipeline: string
  /** Which member made it, from 1 in the order of their starts. */
  readonly member: number
}

export interface Caller {
  readonly pipeline: string
  readonly number: number
}

export class Network {
  #decide = Faults.none.start()
  #calls: Array<Call> = []
  #counts = new Map<Faults.Operation, number>()

  /** Begins this plan, with counts from 1 and an empty log. */
  use(plan: Faults.Plan): void {
    this.#decide = plan.start()
    this.#calls = []
    this.#counts = new Map()
  }

  get calls(): ReadonlyArray<Call> {
    return [...this.#calls]
  }

  /** Logs a call, and answers it with what becomes of it. */
  meet({ pipeline, number }: Caller, own: Faults.Call): readonly [Call, Faults.Fault | undefined] {
    const count = (this.#counts.get(own.operation) ?? 0) + 1
    this.#counts.set(own.operation, count)
    const call: Call = { ...own, count, step: this.#calls.length + 1, pipeline, member: number }
    this.#calls.push(call)
    return [call, this.#decide(call)]
  }
}
