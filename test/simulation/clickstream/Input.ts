/** What trackers may send: repeats, damaged messages, clicks that cannot be one, and times that wander, some too late. */
import { Buffer } from "node:buffer"
import { forKey } from "../../../src/kafka/Partitioner.ts"
import type { Dice } from "../../support/Seeds.ts"
import type { Fed } from "../Decision.ts"
import { epoch } from "../World.ts"

export const partitions = 2

const minute = 60_000
const users = ["ann", "ben", "cho", "dee"]

/** All of it arrives in the last hours before the run. */
const begins = -20 * 60 * minute

const iso = (millis: number) => new Date(epoch + millis).toISOString()

export const messages = (dice: Dice, length: number): ReadonlyArray<Fed> => {
  let time = begins
  let arrival = begins
  const sent = new Map<string, Array<string>>()
  return Array.from({ length }, (_, i): Fed => {
    const user = dice.pick(users)
    // Ids are remembered for an hour and a little more: nothing comes between the two.
    arrival += dice.int(0, 24) === 0 ? 120 * minute : dice.int(0, 2_000)
    time += dice.pick([-minute, 0, 1_000, 5_000, 20_000, minute, 3 * minute])
    if (dice.int(0, 19) === 0) time += dice.pick([40, 100]) * minute
    const at = time - (dice.int(0, 9) === 0 ? dice.pick([12, 95, 130]) * minute : 0)
    const ids = sent.get(user) ?? []
    sent.set(user, ids)
    const repeated = ids.length > 0 && dice.int(0, 7) === 0
    const messageId = repeated ? dice.pick(ids.slice(-4)) : `${user}-${i}`
    ids.push(messageId)
    const message = {
      type: "track",
      event: "Clicked",
      messageId,
      ...dice.int(0, 3) === 0 ? { anonymousId: "x", userId: user } : { anonymousId: user },
      timestamp: iso(at),
      ...dice.int(0, 3) === 0 && { sentAt: iso(at + 5_000) },
      receivedAt: iso(at + dice.pick([5_000, 6_500, minute])),
      source: "web",
      context: { page: { url: `https://shop.example/${dice.pick(["a", "b", "c"])}` } },
    }
    return {
      topic: "user.clicks.raw",
      partition: forKey(Buffer.from(user), partitions),
      key: user,
      value: dice.int(0, 11) === 0 ? odd(dice, message) : JSON.stringify(message),
      at: arrival,
    }
  })
}

const odd = (dice: Dice, message: Readonly<Record<string, unknown>>): string | null =>
  dice.pick<() => string | null>([
    () => "{",
    () => null,
    () => JSON.stringify({ ...message, anonymousId: null, userId: null }),
    () => JSON.stringify({ ...message, timestamp: "1960-01-01T00:00:00.000Z", sentAt: null }),
    () => JSON.stringify({ ...message, timestamp: null }),
    () => JSON.stringify({ ...message, context: { page: { url: "nowhere" } } }),
    () => JSON.stringify({ ...message, type: "identify", traits: { plan: dice.int(1, 3) } }),
    () => JSON.stringify({ ...message, type: "identify", traits: { plan: dice.int(1, 3) } }),
  ])()
