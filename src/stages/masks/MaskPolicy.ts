/** What each policy makes of a text. */
import { Buffer } from "node:buffer"
import { createHmac, createSecretKey, type KeyObject } from "node:crypto"
import { isIP } from "node:net"
import type { Policy } from "../../Personal.ts"

/** A key of tokens, ready for use. */
export interface OpenKey {
  readonly id: string
  readonly secret: KeyObject
}

/** What stands for a text that is not shown. */
export const redacted = "***"

const secretBytes = 16

/** Throws a `RangeError` where an id or a secret will not do. */
export const openKey = (id: string, secret: string | Uint8Array): OpenKey => {
  checkKeyId(id)
  const bytes = typeof secret === "string" ? Buffer.from(secret) : Buffer.from(secret)
  if (bytes.length < secretBytes) {
    throw new RangeError(`Mask: the secret of key ${id} has ${bytes.length} bytes; give it ${secretBytes} or more`)
  }
  return { id, secret: createSecretKey(bytes) }
}

export const checkKeyId = (id: string): void => {
  if (/^[A-Za-z0-9_-]{1,32}$/.test(id)) return
  throw new RangeError("Mask: a key's id is 1 to 32 letters, digits, hyphens and underscores: it stands in every token")
}

/**
 * The id of the key, a point, and 128 bits of HMAC-SHA-256 (RFC 2104) of the text in base64url: the same for the same text,
 * key and domain, and told back by nobody who has not the secret.
 */
export const tokenOf = ({ id, secret }: OpenKey, text: string | Uint8Array, domain = ""): string => {
  const hmac = createHmac("sha256", secret)
  if (domain !== "") hmac.update(`${domain}\0`)
  return `${id}.${hmac.update(text).digest().subarray(0, 16).toString("base64url")}`
}

/**
 * The network of an address: IPv4 without its last octet (/24), IPv6 as /48; `undefined` for what is no address. An
 * address of IPv4 that is written as one of IPv6 (`::ffff:`) is one of IPv4.
 */
export const network = (address: string): string | undefined => {
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

/** The last characters of a text; none of one that has no more. */
const last = (text: string, count: number): string => {
  const characters = Array.from(text)
  return characters.length <= count ? redacted : redacted + characters.slice(characters.length - count).join("")
}

/** What a policy makes of texts; `undefined` for one that is not about texts. Tokens are made with the key at hand. */
export const onText = (policy: Policy, key: () => OpenKey): ((text: string) => string) | undefined => {
  switch (policy._tag) {
    case "Redact":
      return () => redacted
    case "Tokenise":
      return (text) => tokenOf(key(), text, policy.domain)
    case "Network":
      return (text) => network(text) ?? redacted
    case "KeepLast":
      return (text) => last(text, policy.count)
    case "Drop":
    case "Replace":
      return undefined
  }
}

/** Texts as a policy makes them, to find out whether a schema takes such. */
export const examples = (policy: Policy, keyId: string): ReadonlyArray<string> => {
  switch (policy._tag) {
    case "Redact":
      return [redacted]
    case "Tokenise":
      return [`${keyId}.${"A".repeat(22)}`]
    case "Network":
      return ["192.0.2.0", "2001:db8:1::"]
    case "KeepLast":
      return [redacted, redacted + "0".repeat(policy.count)]
    case "Drop":
    case "Replace":
      return []
  }
}
