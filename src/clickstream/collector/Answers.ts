/** What clients are answered. */
import { HttpServerResponse } from "effect/http"
import type { BodyError } from "./Body.ts"

type Response = HttpServerResponse.HttpServerResponse

export const json = (status: number, body: object, headers: Readonly<Record<string, string>> = {}): Response =>
  HttpServerResponse.jsonUnsafe(body, { status, headers })

export const success = json(200, { success: true })

export const unauthorized = json(401, { success: false, message: "no write key, or one that is not known here" })

export const tooMany = (wait: number) =>
  json(429, { success: false, message: "too many events for this write key" }, { "retry-after": String(wait) })

export const unavailable = json(
  503,
  { success: false, message: "events cannot be written now, try again later" },
  { "retry-after": "2" },
)

const statuses = { TooLarge: 413, TooSlow: 408, Broken: 400, Undecodable: 400 } as const

export const refusal = ({ reason, message }: BodyError): Response =>
  reason === "Crowded" ? unavailable : json(statuses[reason], { success: false, message })
