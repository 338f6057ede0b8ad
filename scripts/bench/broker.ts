/** A broker of a benchmark's own, with free ports and a directory that goes with it. */
import { rm } from "node:fs/promises"
import { kafka, place } from "../../test/support/BrokerProcess.ts"

/** Starts a broker, hands its address to `use`, and stops it. */
export const withBroker = async <A>(use: (broker: string) => Promise<A>, ...options: ReadonlyArray<string>) => {
  process.env["KAFKA_HEAP"] ??= "1g"
  const local = await place()
  const broker = await kafka("start", local, options)
  try {
    return await use(broker)
  } finally {
    await kafka("stop", local)
    await rm(local.dir, { recursive: true, force: true })
  }
}
