/** What the broker in memory throws when it refuses a request; the port turns it into a `KafkaError`. */
import type { ErrorCode } from "../Cluster.ts"

export class Refusal extends Error {
  readonly code: ErrorCode
  constructor(code: ErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** The refusal that `act` ends in, or its answer. Anything else that is thrown is a defect and passes. */
export const attempt = <A>(act: () => A): A | Refusal => {
  try {
    return act()
  } catch (thrown) {
    if (thrown instanceof Refusal) return thrown
    throw thrown
  }
}
