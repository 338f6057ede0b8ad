/** How a pipeline's batches are committed: one value, chosen when the pipeline is made. */
export { exactlyOnce } from "./kafka/ExactlyOnce.ts"
export { atLeastOnce } from "./kafka/AtLeastOnce.ts"
