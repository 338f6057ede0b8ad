/** From what trackers send to clicks that can be counted: each once, normalised, in its session. */
import { type Naming, type Topics, topics } from "../../schemas/index.ts"
import type { EnrichedClick } from "../../schemas/EnrichedClicks.ts"
import type { RawClick } from "../../schemas/RawClicks.ts"
import {
  Branch,
  Check,
  DeadLetter,
  Decode,
  Deduplicate,
  Degrade,
  Deliver,
  Failures,
  Flow,
  Guarantee,
  Ingest,
  Pipeline,
  repartition,
} from "../index.ts"
import { pipelines } from "./Names.ts"
import { toBareClick, toClick, toIdentity } from "./Normalise.ts"
import * as Sessions from "./Sessions.ts"

export interface Options {
  readonly repeats: Pick<Deduplicate.Options<RawClick>, "window" | "atMost">
  readonly sessions: Omit<Sessions.Options, "name">
  /** When user agents are not looked at; always unless given. Nothing that is counted depends on them. */
  readonly devices?: Degrade.Policy | undefined
}

/**
 * Where raw is keyed by user, `user.clicks.enriched` keeps its partitions. Where it is keyed by visitor, a click is found a
 * session in its visitor's partition, and then moves to its user's.
 */
export const enrich = (naming: Naming, options: Options) => {
  const to = topics(naming)
  const { enrich: name } = pipelines(naming)
  const failed = DeadLetter.to(to.dlt)
  const routes = { DecodeError: failed, InvalidClick: failed, Keyless: failed, Late: DeadLetter.to(to.late) }
  const inSessions = clicksInSessions(to, options)
  return naming.keyBy === "user"
    ? Pipeline.make(
      name,
      inSessions.pipe(Deliver.to(to.enriched), Failures.route({ ...routes, Undeliverable: failed })),
      Guarantee.exactlyOnce(),
    )
    : Pipeline.make(
      name,
      inSessions.pipe(
        Failures.route({ ...routes, Undeliverable: failed }),
        repartition(to.byUser, { undeliverable: failed }),
        Deliver.to(to.enriched),
        Failures.route({ DecodeError: failed, Undeliverable: failed }),
      ),
      Guarantee.exactlyOnce(),
    )
}

const clicksInSessions = (to: Topics, { repeats, sessions, devices }: Options) =>
  Ingest.topic(to.raw).pipe(
    Decode.schema,
    Deduplicate.by({ ...repeats, name: "seen", id: (message) => message.messageId }),
    Branch.when(isIdentity, (flow) =>
      flow.pipe(
        Deliver.derived(to.identities, toIdentity),
        Flow.filter((_): _ is never => false, "not a click"),
      )),
    devices === undefined ? Check.with(toClick) : Degrade.by(
      devices,
      (flow) => flow.pipe(Check.with(toClick)),
      (flow) => flow.pipe(Check.with(toBareClick)),
    ),
    Sessions.by({ ...sessions, name: "sessions" }),
    Deliver.latest(to.sessions, ({ user, session }) => ({ ...session, user })),
    Flow.map(({ session, ...click }): EnrichedClick => ({
      ...click,
      session: { id: session.id, number: session.clicks, firstPage: session.firstPage },
    })),
  )

const isIdentity = (message: RawClick) =>
  message.type === "identify" || message.type === "group" || message.type === "alias"
