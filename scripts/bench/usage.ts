/** What a process has taken so far, as Linux counts it. */
import { readFileSync } from "node:fs"

export interface Usage {
  readonly cpuSeconds: number
  readonly peakMegabytes: number
}

export const usage = (pid: number): Usage => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]
  return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100, peakMegabytes: Number(peak) / 1024 }
}
