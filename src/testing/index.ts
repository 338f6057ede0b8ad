/** For testing pipelines: what `millrace/testing` exports. */
export * as Driver from "./Driver.ts"
export { atEveryStep, Differs } from "./EveryStep.ts"
export { Dice, forSeeds } from "./Dice.ts"
export * as Faults from "../kafka/Faults.ts"
export * as KafkaMemory from "../kafka/ClusterMemory.ts"
export { TestClock } from "effect/testing"
