/** Whose transaction it is: programs of ours draw their transactional ids as `<pipeline>-<32 hexadecimal digits>`. */
import { Effect } from "effect"
import { Cluster, type KafkaError } from "../../kafka/Cluster.ts"
import { ownerOf } from "../../kafka/Positions.ts"
import { patiently } from "../../kafka/Retry.ts"
import { patience } from "./Held.ts"

export interface Owner {
  /** The pipeline, and its group. */
  readonly pipeline: string
  /**
   * Whether it is a member of its group. `unknown` where the group cannot be asked, and where none of its positions names the id:
   * whoever has tasks is named there, so that it has none, or runs in a group of another name.
   */
  readonly isAlive: "yes" | "no" | "unknown"
}

/** The owner of a transactional id; `undefined` where it is none of ours. */
export const of = Effect.fnUntraced(function* (
  transactionalId: string,
): Effect.fn.Return<Owner | undefined, KafkaError, Cluster> {
  const pipeline = /^(.+)-[0-9a-f]{32}$/.exec(transactionalId)?.[1]
  if (pipeline === undefined) return undefined
  const cluster = yield* Cluster
  const [group] = yield* patiently(cluster.describeGroups([pipeline]), patience)
  if (group === undefined || group.error !== null && !gone.has(group.error)) return { pipeline, isAlive: "unknown" }
  const positions = yield* patiently(cluster.offsetFetch(pipeline, undefined, false), patience)
  const owners = positions.flatMap((position) => {
    const owner = ownerOf(position)
    return owner === undefined ? [] : [owner, ...owner.before ?? []]
  })
  const members = owners.filter(({ txn }) => txn === transactionalId).map(({ member }) => member)
  if (members.length === 0) return { pipeline, isAlive: "unknown" }
  const isMember = group.members.some(({ memberId }) => members.includes(memberId))
  return { pipeline, isAlive: isMember ? "yes" : "no" }
})

/** Answers for groups that do not exist. */
const gone: ReadonlySet<string> = new Set(["GROUP_ID_NOT_FOUND"])
