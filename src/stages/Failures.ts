/** What becomes of records that fail: one table behind the last stage that fails any, and tables for stages of their own. */
export * from "../Failures.ts"
export { handle } from "./failures/Handle.ts"
export { parkedRecords } from "./failures/Handling.ts"
export { heldTasks } from "./failures/Held.ts"
export { retries } from "./failures/InPlace.ts"
export { missedRecords } from "./failures/Missing.ts"
export { hold, later, retry } from "./failures/Policies.ts"
