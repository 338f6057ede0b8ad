/** Who is sending: by the write key, wherever trackers put it. */
import { Buffer } from "node:buffer"
import type { HttpServerRequest } from "effect/http"
import type { WriteKey } from "./Settings.ts"

export interface Sources {
  /**
   * By `X-Write-Key`, Basic authentication (the key is the user) or the query's `writeKey`; undefined where none of them
   * is there, "unknown" where the key is nobody's.
   */
  inHeaders(request: HttpServerRequest.HttpServerRequest): WriteKey | "unknown" | undefined
  byKey(key: unknown): WriteKey | undefined
}

export const make = (keys: ReadonlyArray<WriteKey>): Sources => {
  const known = new Map(keys.map((source) => [source.key, source]))
  return {
    byKey: (key) => typeof key === "string" ? known.get(key) : undefined,
    inHeaders: ({ headers, url }) => {
      const key = headers["x-write-key"] ?? basic(headers["authorization"]) ?? inQuery(url)
      return key === undefined ? undefined : known.get(key) ?? "unknown"
    },
  }
}

const basic = (header: string | undefined): string | undefined => {
  const encoded = /^basic\s+(\S+)$/i.exec(header ?? "")?.[1]
  return encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString("utf8").split(":", 1)[0]
}

const inQuery = (url: string): string | undefined =>
  url.includes("writeKey=") ? new URLSearchParams(url.slice(url.indexOf("?"))).get("writeKey") ?? undefined : undefined
