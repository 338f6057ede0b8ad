/** Cases in which the simulation found a defect, as small as it made them. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { Dice } from "../support/Seeds.ts"
import { messages } from "./clickstream/Input.ts"
import * as Clickstream from "./clickstream/System.ts"
import { single } from "./random/System.ts"
import { run } from "./World.ts"

it.effect("a record that is tried again in place waits no longer where the clock is put back", () =>
  Effect.gen(function* () {
    const dice = new Dice(4070)
    const { name, system, input } = single(dice)
    assert.match(name, /handle \(Busy 1 times/)
    const record = input.find(({ value }) => value?.includes('"cho-3"'))!
    yield* run(system, [
      { do: "start", pipeline: "random" },
      { do: "feed", record },
      { do: "wait", millis: 300 },
      { do: "jump", who: { pipeline: "random", nth: 1 }, millis: -1_800_000 },
    ], { seed: 1 })
  }))

it.effect("positions in the database are shown to the group also where the last commit of them is refused", () =>
  Effect.gen(function* () {
    const [first, second] = messages(new Dice(1), 2)
    const pipeline = "clickstream-store-sessions"
    yield* run(Clickstream.whole("patient"), [
      {
        do: "fault",
        who: { pipeline, nth: 1 },
        call: "OffsetCommit",
        n: 3,
        kind: "refused for good",
        code: "GROUP_AUTHORIZATION_FAILED",
      },
      { do: "start", pipeline: "clickstream-enrich" },
      { do: "start", pipeline },
      { do: "wait", millis: 300 },
      { do: "feed", record: first! },
      { do: "wait", millis: 400 },
      { do: "feed", record: second! },
      { do: "wait", millis: 1_000 },
    ], { seed: 1 })
  }))
