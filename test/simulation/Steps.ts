/** The steps that programs take in a run, each with a crash before and after it. */
import type { Operation } from "../../src/kafka/Faults.ts"
import type { PlannedFault } from "./Program.ts"
import type { Ran, System } from "./World.ts"

/** Long polls and heartbeats are many and change nothing; the others only read, and a crash at one is as one at the next. */
const matters = (operation: Operation) => !["Fetch", "Heartbeat", "Metadata", "ListOffsets"].includes(operation)

export interface Step {
  readonly fault: PlannedFault
  /** Names it on a command line: only this step where `STEP` is given. */
  readonly step: string
}

export const crashes = (system: System, whole: Ran): ReadonlyArray<Step> =>
  system.pipelines.flatMap(({ name: pipeline }) => {
    const calls = whole.calls(pipeline)[0]!.filter(({ operation }) => matters(operation))
    return calls.flatMap(({ operation, count }) =>
      (["crash before", "crash after"] as const).map((kind): Step => ({
        fault: { do: "fault", who: { pipeline, nth: 1 }, call: operation, n: count, kind },
        step: `${pipeline}: ${kind} ${operation} ${count}`,
      }))
    )
  }).filter(({ step }) => process.env["STEP"] === undefined || process.env["STEP"] === step)
