/**
 * What happens in a run, as a list: input, schedule and faults. The same list is the same run, and what is left of a list
 * when some of it is taken out is a run as well: that is how one that fails shrinks.
 */
import type { Operation } from "../../src/kafka/Faults.ts"

/** A record of the input. */
export interface Fed {
  readonly topic: string
  readonly partition: number
  readonly key: string | null
  readonly value: string | null
  /** The Kafka timestamp, in milliseconds since the run began. */
  readonly at: number
}

/** A program is told by its pipeline and which of that pipeline's programs it is, in the order of their starts, from 1. */
export interface Who {
  readonly pipeline: string
  readonly nth: number
}

/** What a program asks of the database. */
export type Statement = "Begin" | "Query" | "Commit"

/** What happens to one call. */
export type AtCall =
  | {
    readonly kind:
      | "crash before"
      | "crash after"
      | "unreachable"
      | "answer lost"
      | "brokers restart"
      | "silence"
      | "silence after"
  }
  | { readonly kind: "refused" | "refused for good"; readonly code: string }
  | { readonly kind: "delay" | "late"; readonly millis: number }
  | { readonly kind: "some partitions only"; readonly odd: boolean }
  | { readonly kind: "frozen"; readonly millis: number }

export type Decision =
  | { readonly do: "feed"; readonly record: Fed }
  | { readonly do: "wait"; readonly millis: number }
  /** With a name it is a static member: whoever follows it when it has died has the same name. */
  | { readonly do: "start"; readonly pipeline: string; readonly instance?: string }
  | { readonly do: "stop" | "kill" | "kick" | "fence"; readonly who: Who }
  | { readonly do: "cut off" | "freeze"; readonly who: Who; readonly millis: number }
  | { readonly do: "slow to join"; readonly who: Who; readonly millis: number }
  | { readonly do: "jump"; readonly who: Who; readonly millis: number }
  | { readonly do: "restart broker"; readonly node: number }
  | { readonly do: "fault"; readonly who: Who; readonly call: Operation | Statement; readonly n: number } & AtCall

const name = ({ pipeline, nth }: Who) => `${pipeline} ${nth}`

const seconds = (millis: number) => `${millis / 1_000} s`

/** So many characters of a record are told. */
const longest = 160

/** In words. */
export const show = (decision: Decision): string => {
  switch (decision.do) {
    case "feed": {
      const { topic, partition, key, value, at } = decision.record
      const shown = value === null ? "(tombstone)" : value.length > longest ? `${value.slice(0, longest)}...` : value
      return `feed ${topic}/${partition} at ${seconds(at)}: ${key ?? "(no key)"} ${shown}`
    }
    case "wait":
      return `wait ${seconds(decision.millis)}`
    case "start":
      return `start a program of ${decision.pipeline}${
        decision.instance === undefined ? "" : ` by the name ${decision.instance}`
      }`
    case "restart broker":
      return `broker ${decision.node} restarts without what it alone had`
    case "fault": {
      const { who, call, n, kind } = decision
      const more = "code" in decision
        ? ` with ${decision.code}`
        : "millis" in decision
        ? ` for ${seconds(decision.millis)}`
        : "odd" in decision
        ? `: ${decision.odd ? "odd" : "even"} ones`
        : ""
      return `${name(who)}, ${call} ${n}: ${kind}${more}`
    }
    case "cut off":
    case "freeze":
    case "slow to join":
      return `${name(decision.who)}: ${decision.do} for ${seconds(decision.millis)}`
    case "jump":
      return `${name(decision.who)}: its clock jumps by ${seconds(decision.millis)}`
    default:
      return `${decision.do} ${name(decision.who)}`
  }
}
