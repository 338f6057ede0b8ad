/** For testing pipelines: what `millrace/testing` exports. */
export * as Driver from "./Driver.ts"
export { atEveryStep } from "./EveryStep.ts"
export { atRandom } from "./Random.ts"
export { Dice, forSeeds } from "./Dice.ts"
export * as Faults from "../kafka/Faults.ts"
export * as KafkaMemory from "../kafka/ClusterMemory.ts"
export { TestClock } from "effect/testing"
