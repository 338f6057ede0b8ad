/** The laws of effects, branches by tag, and stages that slow down or leave out. */
import { cases } from "../support/FlowStageCases.ts"
import { laws } from "../support/Laws.ts"

laws(cases)
