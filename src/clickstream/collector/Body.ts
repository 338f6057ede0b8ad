/** The body of a request: its bytes, whatever the headers say of them, as JSON. */
import { Buffer, isUtf8 } from "node:buffer"
import { gunzipSync } from "node:zlib"
import { type Duration, Effect, Result, Schema, Stream } from "effect"
import type { HttpServerRequest } from "effect/http"
import type { Share } from "./Limits.ts"

/** A body that cannot be taken. */
export class BodyError extends Schema.TaggedError<BodyError>()("BodyError", {
  reason: Schema.Literals([
    "TooLarge", // longer than allowed, as sent or when unpacked, or of too many messages
    "Crowded", // no room for it beside the bodies of others
    "TooSlow", // not complete in time
    "Broken", // the connection ended within it
    "Undecodable", // neither JSON nor gzipped JSON
  ]),
  message: Schema.String,
}) {}

/**
 * Reads the whole body; more than `limit` bytes fail with `TooLarge`, as soon as that is known. What has arrived is held in
 * `share`, however small the pieces that it comes in.
 */
export const read = (
  request: HttpServerRequest.HttpServerRequest,
  limit: number,
  patience: Duration.Input,
  share: Share,
): Effect.Effect<Buffer, BodyError> =>
  Effect.suspend(() => {
    const announced = Number(request.headers["content-length"] ?? limit)
    if (announced > limit) return Effect.fail(tooLarge(limit))
    let body: Buffer = Buffer.alloc(0)
    let size = 0
    const add = (chunk: Uint8Array): BodyError | undefined => {
      const needed = size + chunk.length
      if (needed > limit) return tooLarge(limit)
      if (needed > body.length) {
        const room = size === 0 ? needed : Math.max(needed, Math.min(announced, Math.max(smallest, 2 * needed)))
        if (!share.hold(room)) return crowded
        // Most bodies come in one piece, which is taken as it is.
        const larger = size === 0 ? asBuffer(chunk) : Buffer.allocUnsafe(room)
        if (size > 0) body.copy(larger, 0, 0, size)
        body = larger
      }
      if (size > 0) body.set(chunk, size)
      size = needed
      return undefined
    }
    return Stream.runForEachArray(request.stream, (some) => {
      for (const chunk of some) {
        const refused = add(chunk)
        if (refused !== undefined) return Effect.fail(refused)
      }
      return Effect.void
    }).pipe(
      Effect.catchTag("HttpServerError", () => Effect.fail(broken)),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(tooSlow) }),
      Effect.map(() => body.subarray(0, size)),
    )
  })

const smallest = 16 * 1024

/** The JSON in a body, gzipped or not; `limit` holds for the unpacked bytes too. */
export const decode = (body: Uint8Array, limit: number): Result.Result<unknown, BodyError> => {
  const unpacked = body[0] === 0x1f && body[1] === 0x8b ? unpack(body, limit) : Result.succeed(asBuffer(body))
  return Result.flatMap(unpacked, parse)
}

const unpack = (body: Uint8Array, limit: number): Result.Result<Buffer, BodyError> => {
  try {
    return Result.succeed(gunzipSync(body, { maxOutputLength: limit }))
  } catch (cause) {
    const full = cause instanceof Error && "code" in cause && cause.code === "ERR_BUFFER_TOO_LARGE"
    return Result.fail(full ? tooLarge(limit) : undecodable("the body begins like gzip and cannot be unpacked"))
  }
}

const parse = (body: Buffer): Result.Result<unknown, BodyError> => {
  if (body.length === 0) return Result.fail(undecodable("the body is empty"))
  if (!isUtf8(body)) return Result.fail(undecodable("the body is not UTF-8 text"))
  const marked = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf
  try {
    return Result.succeed(JSON.parse(body.toString("utf8", marked ? 3 : 0)))
  } catch {
    return Result.fail(undecodable("the body is not JSON"))
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

export const undecodable = (message: string): BodyError => new BodyError({ reason: "Undecodable", message })

const tooLarge = (limit: number): BodyError =>
  new BodyError({ reason: "TooLarge", message: `the body is larger than ${limit} bytes` })

export const tooMany = (limit: number): BodyError =>
  new BodyError({ reason: "TooLarge", message: `the body has more than ${limit} messages` })

const crowded = new BodyError({ reason: "Crowded", message: "too much is under way" })

const tooSlow = new BodyError({ reason: "TooSlow", message: "the body was not complete in time" })

const broken = new BodyError({ reason: "Broken", message: "the connection ended before the body was complete" })
