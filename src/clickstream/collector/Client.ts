/** The address of a client: from where it can be believed, and short of what would single out a person. */
import { isIP } from "node:net"

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
export const shortened = (address: string | undefined): string | undefined => {
  if (address === undefined) return undefined
  const text = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
  switch (isIP(text)) {
    case 4:
      return `${text.slice(0, text.lastIndexOf("."))}.0`
    case 6:
      return network48(text)
    default:
      return undefined
  }
}

const network48 = (address: string): string => {
  const [head = "", tail] = address.replace(/%.*$/, "").split("::")
  const groups = (text: string) => text === "" ? [] : text.split(":")
  const given = groups(head)
  const missing = tail === undefined ? 0 : 8 - given.length - groups(tail).length
  const [a, b, c] = [...given, ...Array<string>(Math.max(0, missing)).fill("0"), ...groups(tail ?? "")].map((group) =>
    Number.parseInt(group, 16).toString(16)
  )
  return `${a}:${b}:${c}::`
}
