/** What trackers are told when they start. */
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { json, unauthorized } from "./Answers.ts"
import type { Values } from "./Settings.ts"

type Request = HttpServerRequest.HttpServerRequest

/** What Segment's browser tracker asks for when it starts: where to send to, and that it needs nothing else. */
export const of = (
  settings: Values,
  request: Request,
): HttpServerResponse.HttpServerResponse => {
  const key = /\/v1\/projects\/([^/?]+)\/settings/.exec(request.url)?.[1]
  if (key === undefined || !settings.writeKeys.some((known) => known.key === key)) return unauthorized
  const base = settings.publicUrl ?? askedFor(request, settings.proxyHops)
  if (base === undefined) return json(400, { success: false, message: "the Host header is not a host and a port" })
  const [protocol, rest] = base.split("://") as [string, string]
  return HttpServerResponse.jsonUnsafe({
    integrations: { "Segment.io": { apiKey: key, apiHost: `${rest}/v1`, protocol, unbundledIntegrations: [] } },
    plan: { track: { __default: { enabled: true, integrations: {} } } },
    metrics: { sampleRate: 0 },
    edgeFunction: {},
    analyticsNextEnabled: true,
  })
}

/** Where a request was sent to; undefined where it says what is no host. Only proxies of ours can tell of TLS before us. */
const askedFor = ({ headers }: Request, proxyHops: number): string | undefined => {
  const host = headers["host"] ?? "localhost"
  if (!/^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(host)) return undefined
  const forwarded = proxyHops === 0 ? [] : (headers["x-forwarded-proto"] ?? "").split(",").slice(-proxyHops)
  return `${forwarded[0]?.trim().toLowerCase() === "https" ? "https" : "http"}://${host}`
}
