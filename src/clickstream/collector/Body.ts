/** The body of a request: its bytes, whatever the headers say of them, as JSON. */
import { Buffer, isUtf8 } from "node:buffer"
import { gunzipSync } from "node:zlib"
import { type Duration, Effect, Result, Schema, Stream } from "effect"
import type { HttpServerRequest } from "effect/http"

/** A body that cannot be taken. */
export class BodyError extends Schema.TaggedError<BodyError>()("BodyError", {
  reason: Schema.Literals([
    "TooLarge", // longer than allowed, as sent or when unpacked
    "TooSlow", // not complete in time
    "Broken", // the connection ended within it
    "Undecodable", // neither JSON nor gzipped JSON
  ]),
  message: Schema.String,
}) {}

/** Reads the whole body; more than `limit` bytes fail with `TooLarge`, as soon as that is known. */
export const read = (
  request: HttpServerRequest.HttpServerRequest,
  limit: number,
  patience: Duration.Input,
): Effect.Effect<Buffer, BodyError> =>
  Effect.suspend(() => {
    if (Number(request.headers["content-length"] ?? 0) > limit) return Effect.fail(tooLarge(limit))
    const chunks: Array<Uint8Array> = []
    let size = 0
    return Stream.runForEachArray(request.stream, (some) => {
      for (const chunk of some) {
        chunks.push(chunk)
        size += chunk.length
      }
      return size > limit ? Effect.fail(tooLarge(limit)) : Effect.void
    }).pipe(
      Effect.catchTag("HttpServerError", () => Effect.fail(broken)),
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(tooSlow) }),
      Effect.map(() => chunks.length === 1 ? asBuffer(chunks[0]!) : Buffer.concat(chunks, size)),
    )
  })

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

const tooSlow = new BodyError({ reason: "TooSlow", message: "the body was not complete in time" })

const broken = new BodyError({ reason: "Broken", message: "the connection ended before the body was complete" })
