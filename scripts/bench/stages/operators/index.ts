/** All that is measured, in the order of its table. */
import { calmly, type Operator } from "../operator.ts"
import { folds } from "./folds.ts"
import { joins } from "./joins.ts"
import { limits } from "./limits.ts"
import { topics } from "./topics.ts"
import { values } from "./values.ts"
import { windows } from "./windows.ts"

const all: ReadonlyArray<Operator> = [...values, ...limits, ...topics, ...windows, ...folds, ...joins]

export const operators: ReadonlyArray<Operator> = all.flatMap((one) =>
  one.rightOneIn === undefined ? [one] : [one, calmly(one)]
)
