/** The topics of orders. */
import type { Naming } from "../Naming.ts"
import { accepted } from "./Accepted.ts"
import { averages } from "./Averages.ts"
import { commands } from "./Commands.ts"
import { created } from "./Created.ts"
import { deadLetters } from "./DeadLetters.ts"
import { payments, paymentsByUser } from "./Payments.ts"
import { rejected } from "./Rejected.ts"
import { updated } from "./Updated.ts"

/** The contracts of all topics of orders. */
export const orderTopics = ({ prefix = "" }: Partial<Pick<Naming, "prefix">> = {}) => {
  const naming = { prefix }
  return {
    commands: commands(naming),
    created: created(naming),
    updated: updated(naming),
    payments: payments(naming),
    paymentsByUser: paymentsByUser(naming),
    accepted: accepted(naming),
    rejected: rejected(naming),
    averages: averages(naming),
    dlt: deadLetters(naming),
  }
}

export type OrderTopics = ReturnType<typeof orderTopics>
