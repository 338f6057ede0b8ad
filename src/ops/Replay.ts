/** Processing again what was processed: planned, in place or beside the live pipeline, compared, and undone. */
export { earliest, type From, type Offsets, offsets, parse, parseFile, time } from "./replay/From.ts"
export {
  type Allowed,
  type Any,
  type Asked,
  type PartitionPlan,
  type Plan,
  plan,
  refusals,
  shadowRefusals,
} from "./replay/Plan.ts"
export { type Entry, file, type Journal, load } from "./replay/Journal.ts"
export { type Options, resume, run, undo } from "./replay/InPlace.ts"
export { type Progress, type Running } from "./replay/Following.ts"
export { forget, resumeShadow, shadow, type ShadowOptions } from "./replay/Shadow.ts"
export { type Diff, diff, type Difference, type DiffOptions, type TopicDiff } from "./replay/Diff.ts"
export { cutOver, type CutOverOptions } from "./replay/CutOver.ts"
export { JournalError, type ReplayFailure, ReplayRefused } from "./replay/ReplayError.ts"
export { compared, planned } from "./replay/Table.ts"
