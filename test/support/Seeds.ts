export { Dice, forSeeds } from "../../src/testing/Dice.ts"
