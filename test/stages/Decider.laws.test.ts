import { cases } from "../support/DeciderCases.ts"
import { laws } from "../support/Laws.ts"

laws(cases)
