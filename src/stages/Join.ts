/** Joins of flows with the same keys in the same partitions; by foreign key, of tables with different ones. */
export type { Kind, Match } from "./Joined.ts"
export {
  type FromLeft,
  type FromRight,
  stream,
  type StreamBound,
  type StreamKind,
  type StreamOptions,
} from "./StreamJoin.ts"
export { table, type TableOptions } from "./StreamTableJoin.ts"
export { type AsOf, asOf, type AsOfOptions, type Grace } from "./AsOfJoin.ts"
export { tables, type TablesKind, type TablesOptions } from "./TableTableJoin.ts"
export { foreignKey, type ForeignKeyOptions } from "./ForeignKeyJoin.ts"
export { type ForeignKeyTopics, foreignKeyTopics, type Response, type Subscription } from "./ForeignKeyTopics.ts"
