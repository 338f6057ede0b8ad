/** What the raw topic's contract lets through, whoever has written it. */
import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import { Result } from "effect"
import { topics } from "../../schemas/index.ts"

const { raw } = topics()

const alias = {
  type: "alias",
  messageId: "m",
  userId: "u",
  anonymousId: "a",
  previousId: "p",
  receivedAt: "2026-05-17T10:00:10.000Z",
  source: "web",
}

const decode = (fields: object) => raw.decode(Buffer.from(JSON.stringify({ ...alias, ...fields })))

describe("RawClicks", () => {
  it("takes ids of any text that a database holds", () => {
    for (const id of ["a", " ", "\ufffd", "\u{1f980}", "\u0001"]) {
      assert.isTrue(Result.isSuccess(decode({ messageId: id, userId: id, anonymousId: id, previousId: id })), id)
    }
  })

  it("refuses ids with NUL or half of a surrogate pair, and names the field", () => {
    for (const field of ["messageId", "userId", "anonymousId", "previousId"]) {
      for (const id of ["\0", "a\0b", "\ud83e", "\udd80\ud83e"]) {
        const decoded = decode({ [field]: id })
        assert.strictEqual(Result.isFailure(decoded) && decoded.failure.field, field)
      }
    }
  })
})
