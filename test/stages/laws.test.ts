/** Laws 0 to 4 of the stages, over random records cut into batches anywhere, and law 5 as far as one task sees it. */
import { laws } from "../support/Laws.ts"
import { cases } from "../support/StageCases.ts"

laws(cases)
