/** Laws 0 to 5 of joins of two streams. */
import { laws } from "../support/Laws.ts"
import { streamJoins } from "../support/StreamJoinCases.ts"

laws(streamJoins)
