/** The address of a client: from where it can be believed, and short of what would single out a person. */
import { Mask } from "../../index.ts"

/**
 * The client's address. With no proxies it is the connection's; behind `hops` proxies it is the entry of
 * `X-Forwarded-For` that the outermost of them wrote, counted from the right, because everything left of it is the
 * client's own word. Absent where there is no such entry.
 */
export const addressOf = (
  connection: string | undefined,
  forwardedFor: string | undefined,
  hops: number,
): string | undefined => {
  if (hops === 0) return connection
  const entry = forwardedFor?.split(",").at(-hops)
  return entry === undefined ? undefined : withoutPort(entry.trim())
}

const withoutPort = (entry: string): string => {
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(entry)
  if (bracketed !== null) return bracketed[1]!
  return /^\d+\.\d+\.\d+\.\d+:\d+$/.test(entry) ? entry.slice(0, entry.indexOf(":")) : entry
}

/** An IPv4 address with its last octet zeroed, an IPv6 address as its /48 network; absent for anything else. */
export const shortened = (address: string | undefined): string | undefined =>
  address === undefined ? undefined : Mask.network(address)
