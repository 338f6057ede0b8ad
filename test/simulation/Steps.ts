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
    const steps = [
      ...calls.map(({ operation, count }) => ({ call: operation, n: count })),
      ...whole.statements(pipeline)[0]!,
    ]
    return steps.flatMap(({ call, n }) =>
      (["crash before", "crash after"] as const).map((kind): Step => ({
        fault: { do: "fault", who: { pipeline, nth: 1 }, call, n, kind },
        step: `${pipeline}: ${kind} ${call} ${n}`,
      }))
    )
  }).filter(({ step }) => process.env["STEP"] === undefined || process.env["STEP"] === step)
