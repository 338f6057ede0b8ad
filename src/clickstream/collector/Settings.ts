/** The collector's settings, by environment variable. */
import { Result } from "effect"
import { Settings } from "../../index.ts"
import { isOrigin } from "./Cors.ts"

/** Who may send: the name of a source, and the key that its trackers are given. A source may have several keys. */
export interface WriteKey {
  readonly name: string
  readonly key: string
}

const writeKey = (text: string): Result.Result<WriteKey, string> => {
  const at = text.indexOf(":")
  const name = text.slice(0, at)
  const key = text.slice(at + 1)
  return at > 0 && /^[\w.-]+$/.test(name) && /^[\w.~-]+$/.test(key) ? Result.succeed({ name, key }) : Result.fail(
    "must be a list of name:key, of letters, digits, dots, dashes and underscores, with commas between them",
  )
}

const distinct = (keys: ReadonlyArray<WriteKey>): Result.Result<ReadonlyArray<WriteKey>, string> => {
  if (keys.length === 0) return Result.fail("must name at least one source and its key")
  return new Set(keys.map(({ key }) => key)).size === keys.length
    ? Result.succeed(keys)
    : Result.fail("must not give two sources the same key")
}

const httpUrl = (text: string | undefined): Result.Result<string | undefined, string> =>
  text === undefined || /^https?:\/\/[^/\s]+(\/[^\s?#]*)?$/.test(text)
    ? Result.succeed(text?.replace(/\/$/, ""))
    : Result.fail("must be an address such as https://collect.example.com")

export const settings = {
  writeKeys: Settings.checked(
    Settings.list("WRITE_KEYS", {
      doc: "Who may send: name:key for each source, with commas between them. Keys are public, they stand in web pages",
      fallback: "website:demo",
    }, writeKey),
    distinct,
  ),
  origins: Settings.list(
    "ALLOWED_ORIGINS",
    { doc: "Sites whose pages may send: https://example.com, https://*.example.com, or * for all", fallback: "*" },
    (text) =>
      isOrigin(text)
        ? Result.succeed(text)
        : Result.fail("must be a list of origins such as https://example.com or https://*.example.com, or *"),
  ),
  rate: Settings.integer("RATE_LIMIT", {
    doc: "Events per second and write key in one process; more are told to come back later. 0 for no limit",
    fallback: "10000",
    least: 0,
    most: 10_000_000,
  }),
  requests: Settings.integer("MAX_REQUESTS", {
    doc: "Requests at a time, from when they have arrived; more are told to come back later",
    fallback: "500",
    least: 1,
    most: 100_000,
  }),
  bodyBytes: Settings.integer("MAX_BODY_BYTES", {
    doc: "The largest body, as sent and unpacked",
    fallback: String(4 * 1024 * 1024),
    least: 1024,
    most: 256 * 1024 * 1024,
  }),
  items: Settings.integer("MAX_BATCH_ITEMS", {
    doc: "The most messages in one request; trackers send a hundred at most",
    fallback: "10000",
    least: 1,
    most: 1_000_000,
  }),
  heldBytes: Settings.integer("MAX_HELD_BYTES", {
    doc: "Bytes of requests that arrive or wait for the brokers, all together; more are told to come back later",
    fallback: String(128 * 1024 * 1024),
    least: 1024 * 1024,
    most: 64 * 1024 * 1024 * 1024,
  }),
  bodyTime: Settings.duration("MAX_BODY_TIME", {
    doc: "How long a client may take to send its request",
    fallback: "30 seconds",
  }),
  answerTime: Settings.duration("MAX_ANSWER_TIME", {
    doc: "How long to wait for the brokers before a client is told to come back later",
    fallback: "8 seconds",
  }),
  proxyHops: Settings.integer("PROXY_HOPS", {
    doc:
      "Proxies of ours in front, each of which adds to X-Forwarded-For and sets X-Forwarded-Proto. 0: clients connect " +
      "directly",
    fallback: "0",
    least: 0,
    most: 10,
  }),
  ip: Settings.choice("IP_POLICY", {
    doc: "Client addresses are stored shortened (IPv4 without the last octet, IPv6 as /48), or not at all",
    fallback: "keep-short",
    of: ["keep-short", "remove"],
  }),
  privacy: Settings.choice("PRIVACY_POLICY", {
    doc: "What becomes of events whose sender asks not to be tracked (Sec-GPC: 1 or DNT: 1)",
    fallback: "anonymise",
    of: ["ignore", "anonymise", "drop"],
  }),
  publicUrl: Settings.checked(
    Settings.string("PUBLIC_URL", {
      doc: "Where trackers find the collector, if not where they asked for their settings: https://collect.example.com",
      fallback: undefined,
    }),
    httpUrl,
  ),
}

/** The settings as read. */
export type Values = Settings.Values<typeof settings>
