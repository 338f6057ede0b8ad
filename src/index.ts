/** The public surface of Millrace, in the order data flows. */
export * as Topic from "./Topic.ts"
export * as Batch from "./Batch.ts"
export * as Task from "./Task.ts"
export * as Flow from "./Flow.ts"
