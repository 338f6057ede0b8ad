/** The queries, in the order of their names. */
import type { Query } from "./Query.ts"
import { q11, q12 } from "./queries/Bidders.ts"
import { q0, q1, q2 } from "./queries/Bids.ts"
import { q20 } from "./queries/Expansion.ts"
import { q7 } from "./queries/HighestBid.ts"
import { q5 } from "./queries/HotItems.ts"
import { q18 } from "./queries/LastBid.ts"
import { q8 } from "./queries/NewUsers.ts"
import { q13 } from "./queries/SideInput.ts"

export const queries: ReadonlyArray<Query> = [q0, q1, q2, q5, q7, q8, q11, q12, q13, q18, q20]
