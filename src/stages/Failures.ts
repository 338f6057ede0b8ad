/** What becomes of records that fail: one table behind the last stage that fails any, and tables for stages of their own. */
export * from "../Failures.ts"
export { handle } from "./Handle.ts"
export { parkedRecords } from "./Handling.ts"
export { heldTasks } from "./Held.ts"
export { retries } from "./InPlace.ts"
export { missedRecords } from "./Missing.ts"
export { hold, later, retry } from "./Policies.ts"
