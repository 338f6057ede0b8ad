/** The names of the clickstream's pipelines: their consumer groups, and the beginnings of their changelogs' names. */
import { named, type Naming } from "../../schemas/index.ts"

export const pipelines = (naming: Pick<Naming, "prefix">) => ({
  enrich: named(naming, "clickstream-enrich"),
  count: named(naming, "clickstream-count"),
  storeClicks: named(naming, "clickstream-store-clicks"),
  storeCounts: named(naming, "clickstream-store-counts"),
  storeSessions: named(naming, "clickstream-store-sessions"),
  storeIdentities: named(naming, "clickstream-store-identities"),
  storeDeadLetters: named(naming, "clickstream-store-dead-letters"),
})

/** What stands in front of the tables' names: the prefix as an identifier. */
export const tablePrefix = ({ prefix }: Pick<Naming, "prefix">): string =>
  prefix === "" ? "" : `${prefix.replaceAll(/[^a-z0-9]/gi, "_").toLowerCase()}_`
