/** The names of the clickstream's pipelines: their consumer groups, and the beginnings of their changelogs' names. */
import { Result } from "effect"
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

/** A prefix that topics, tables and consumer groups can all have; the failure completes the sentence "PREFIX ...". */
export const prefix = (text: string): Result.Result<string, string> =>
  text === "" || /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/.test(text) ? Result.succeed(text) : Result.fail(
    "must be at most 32 lower-case letters, digits and dashes, with no dash at either end",
  )

/** What stands in front of the tables' names: the prefix as the beginning of an identifier, another one for every prefix. */
export const tablePrefix = ({ prefix }: Pick<Naming, "prefix">): string =>
  prefix === "" ? "" : `${/^\d/.test(prefix) ? "_" : ""}${prefix.replaceAll("-", "_")}_`
