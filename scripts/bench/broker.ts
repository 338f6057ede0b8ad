/** A broker of a benchmark's own, with free ports and a directory that goes with it. */
import { rm } from "node:fs/promises"
import { kafka, place } from "../../test/support/BrokerProcess.ts"

/** What a process ends with that a signal has ended, as shells tell it. */
const ends = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const

/** Starts a broker, hands its address to `use`, and stops it; also where a signal ends the benchmark before. */
export const withBroker = async <A>(use: (broker: string) => Promise<A>, ...options: ReadonlyArray<string>) => {
  process.env["KAFKA_HEAP"] ??= "1g"
  const local = await place()
  const starting = kafka("start", local, options)
  let ending: Promise<void> | undefined
  const end = () =>
    ending ??= (async () => {
      await starting.catch(() => {})
      await kafka("stop", local)
      await rm(local.dir, { recursive: true, force: true })
    })()
  const stop = (signal: keyof typeof ends) => void end().finally(() => process.exit(ends[signal]))
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.on(signal, stop)
  try {
    return await use(await starting)
  } finally {
    await end()
    for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"] as const) process.off(signal, stop)
  }
}
