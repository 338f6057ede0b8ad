import { cases } from "../support/LookupCases.ts"
import { laws } from "../support/Laws.ts"

laws(cases)
