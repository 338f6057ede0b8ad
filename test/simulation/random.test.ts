/**
 * Random pipelines as several programs on the in-memory cluster, through everything that can happen to them: what is
 * committed in the end is what a naive computation over the whole input says.
 */
import { random } from "./random/Cases.ts"
import { single } from "./random/System.ts"

random("random.test.ts", "random pipelines of one kind of task", single)
