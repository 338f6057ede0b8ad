/** The laws of windows of all kinds, emitted in all ways. */
import { laws } from "../support/Laws.ts"
import { windowCases } from "../support/WindowCases.ts"

laws(windowCases)
