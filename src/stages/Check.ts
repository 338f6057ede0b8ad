/** Validation: values that a function refuses leave the flow with a typed reason. */
export { check as with } from "../Flow.ts"
