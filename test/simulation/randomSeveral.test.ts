/** As `random.test.ts`, over several kinds of tasks with topics between them. */
import { random } from "./random/Cases.ts"
import { threeKinds, twoKinds } from "./random/System.ts"

const file = "randomSeveral.test.ts"

random(file, "random pipelines of two kinds of tasks, by another key in the middle", twoKinds)
random(file, "random joins by foreign key, of three kinds of tasks", threeKinds)
