/** Lookups in flows that a single task runs, over a source that always answers the same. */
import { Effect } from "effect"
import { Deliver, Failures, GlobalTable, Lookup } from "../../src/index.ts"
import { type Case, decoded, type Reading, Results } from "./StageCases.ts"

const failure = { _tag: "Away", message: "it is away" } as const

/** Knows some ids, not others, refuses some and fails for some. */
const names = Lookup.make({
  name: "names",
  get: (key: string) => {
    const n = Number(key.slice(-1))
    if (n === 7) return Effect.fail(failure)
    return Effect.succeed(
      n === 8 ? new Lookup.Undecodable({ field: "", message: "no" }) : n > 4 ? undefined : `name ${key}`,
    )
  },
  cache: { size: 3 },
})

const reference = Lookup.reference({
  name: "names",
  load: Effect.succeed(new Map([["ann-1", "Ann"], ["ben-2", "Ben"]])),
  every: "1 hour",
})

const table: GlobalTable.GlobalTable<string> = {
  topic: "table",
  size: 2,
  get: (key) => new Map([["ann-1", "Ann"], ["ben-2", "Ben"]]).get(key),
  entries: () => new Map<string, string>().entries(),
  failure: undefined,
}

const key = ({ id, n }: Reading) => n === 3 ? undefined : id

const described = (found: Lookup.Answer<string>) => found._tag === "Found" ? found.value : found._tag

export const cases: ReadonlyArray<Case> = [
  {
    name: "lookup",
    flow: decoded.pipe(Lookup.by(names, { key, join: (r, found) => ({ ...r, name: described(found) }) })),
  },
  {
    name: "lookup that fails",
    flow: decoded.pipe(
      Deliver.to(Results),
      Lookup.by(names, { key, join: (r, found) => ({ ...r, name: described(found) }), onUnavailable: "fail" }),
    ),
  },
  {
    name: "lookup that fails, routed",
    flow: decoded.pipe(
      Lookup.by(names, { key, join: (r) => r, onUnavailable: "fail" }),
      Failures.route({ LookupFailed: Failures.skip }),
    ),
  },
  {
    name: "lookup in a reference set",
    flow: decoded.pipe(
      Lookup.by(Effect.orDie(reference), { key, join: (r, found) => ({ ...r, name: described(found) }) }),
    ),
  },
  {
    name: "join with a global table",
    flow: decoded.pipe(
      GlobalTable.join(Effect.succeed(table), { key, join: (r, found) => ({ ...r, name: found ?? "nobody" }) }),
    ),
  },
]
