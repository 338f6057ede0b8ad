/** The topics of the clickstream. */
import { clickCounts } from "./ClickCounts.ts"
import { deadLetters } from "./DeadLetters.ts"
import { clicksByUser, enrichedClicks } from "./EnrichedClicks.ts"
import { identities } from "./Identities.ts"
import { lateClicks } from "./LateClicks.ts"
import type { Naming } from "./Naming.ts"
import { rawClicks } from "./RawClicks.ts"
import { sessions } from "./Sessions.ts"

export { named, type Naming } from "./Naming.ts"

/** The contracts of all topics; without options, those of live traffic keyed by user. */
export const topics = ({ prefix = "", keyBy = "user" }: Partial<Naming> = {}) => {
  const naming: Naming = { prefix, keyBy }
  return {
    raw: rawClicks(naming),
    enriched: enrichedClicks(naming),
    byUser: clicksByUser(naming),
    sessions: sessions(naming),
    identities: identities(naming),
    counts: clickCounts(naming),
    dlt: deadLetters(naming),
    late: lateClicks(naming),
  }
}

export type Topics = ReturnType<typeof topics>
