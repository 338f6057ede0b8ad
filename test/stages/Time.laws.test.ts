import { laws } from "../support/Laws.ts"
import { timeCases } from "../support/TimeCases.ts"

laws(timeCases)
