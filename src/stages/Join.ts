/** Joins of flows with the same keys in the same partitions; by foreign key, of tables with different ones. */
export type { Kind, Match } from "./joins/Joined.ts"
export {
  type FromLeft,
  type FromRight,
  stream,
  type StreamBound,
  type StreamKind,
  type StreamOptions,
} from "./joins/StreamJoin.ts"
export { table, type TableOptions } from "./joins/StreamTableJoin.ts"
export { type AsOf, asOf, type AsOfOptions, type Grace } from "./joins/AsOfJoin.ts"
export { tables, type TablesKind, type TablesOptions } from "./joins/TableTableJoin.ts"
export { foreignKey, type ForeignKeyOptions } from "./joins/ForeignKeyJoin.ts"
export { type ForeignKeyTopics, foreignKeyTopics, type Response, type Subscription } from "./joins/ForeignKeyTopics.ts"
