/** Whatever a tracker sends that the raw contract lets through becomes a click that the enriched contract takes, or a typed refusal. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { corrected } from "../../schemas/EventTime.ts"
import { millisOf } from "../../schemas/Fields.ts"
import { topics } from "../../schemas/index.ts"
import type { Click as RawClick, Identity as RawIdentity, RawClick as Raw } from "../../schemas/RawClicks.ts"
import * as Device from "../../src/clickstream/Device.ts"
import { toBareClick, toClick, toIdentity } from "../../src/clickstream/Normalise.ts"
import * as PageAddress from "../../src/clickstream/PageAddress.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const { raw, enriched, identities } = topics()

const page = (fields: Partial<RawClick> = {}): RawClick =>
  ({
    type: "page",
    messageId: "m1",
    anonymousId: "a",
    receivedAt: "2026-05-17T10:00:10.000Z",
    source: "web",
    ...fields,
  }) as RawClick

const clickOf = (message: RawClick) => {
  const result = toClick(message)
  if (Result.isFailure(result)) throw result.failure
  return result.success
}

/** Values of every kind, among them those that break careless code. */
const anything = (dice: Dice): unknown =>
  dice.pick<() => unknown>([
    () => null,
    () => "",
    () => dice.int(-1e9, 1e9),
    () => ({ nested: [1, "x"] }),
    () => [],
    () => "http://[",
    () => "https://user:secret@Shop.example:8443/a/b?utm_source=x&mail=ann%40example.org#top",
    () => "/path?x=1#y",
    () => "//evil.example/x",
    () => "javascript:alert(1)",
    () => "\ud800 half\0",
    () => "x".repeat(5_000),
    () =>
      "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Version/17.0 Mobile/15E148 Safari/604.1",
  ])()

const message = (dice: Dice): Raw => {
  const bag = (...names: ReadonlyArray<string>) =>
    Object.fromEntries(names.filter(() => dice.int(0, 2) > 0).map((name) => [name, anything(dice)]))
  const type = dice.pick(["track", "page", "screen", "identify", "group", "alias"] as const)
  const ids = dice.pick([{ userId: "u" }, { anonymousId: "a" }, { userId: "\u{1f980}".repeat(250), anonymousId: null }])
  return {
    type,
    messageId: `m${dice.int(0, 1e6)}`,
    ...ids,
    receivedAt: "2026-05-17T10:00:10.000Z",
    source: "web",
    ...dice.pick([{}, { timestamp: "2026-05-17T09:00:00Z" }, {
      timestamp: "2020-01-01T00:00:00+02:00",
      sentAt: "2020-01-01T00:00:01Z",
    }]),
    ...type === "track" ? { event: "Bought" } : {},
    ...type === "group" ? { groupId: "g".repeat(dice.int(1, 512)) } : {},
    ...type === "alias" ? { userId: "new", previousId: "old" } : {},
    ...type === "identify" || type === "group" ? { traits: bag("email", "a\0b") } : {},
    ...type === "track" || type === "page" || type === "screen"
      ? { properties: bag("url", "path", "title", "referrer", "name") }
      : {},
    context: {
      ...bag("userAgent", "page", "campaign", "os", "device"),
      ...dice.pick([{}, { page: bag("url", "path", "title", "referrer") }, {
        campaign: bag("source", "name"),
        os: bag("name"),
        device: bag("type"),
      }]),
    },
  } as Raw
}

describe("Normalise", () => {
  it.effect("answers every valid message with a valid click or identity, or a reason, and never throws", () =>
    forSeeds(3_000, (dice) =>
      Effect.sync(() => {
        const encoded = raw.encode(message(dice))
        assert.isTrue(Result.isSuccess(encoded), String(Result.isFailure(encoded) && encoded.failure.message))
        const decoded = Result.getOrThrow(raw.decode(Result.getOrThrow(encoded)))
        switch (decoded.type) {
          case "identify":
          case "group":
          case "alias":
            assert.isTrue(Result.isSuccess(identities.encode(toIdentity(decoded))))
            break
          default: {
            const click = toClick(decoded)
            if (Result.isFailure(click)) assert.match(click.failure.field, /^(properties|context\.page)\.(url|path)$/)
            else {
              const session = { id: "s", number: 1, firstPage: click.success.path }
              assert.isTrue(Result.isSuccess(enriched.encode({ ...click.success, session })))
            }
          }
        }
      })))

  it("takes the page's own properties before the tracker's context", () => {
    const click = clickOf(page({
      properties: { url: "https://shop.example/basket?utm_source=mail&utm_campaign=spring", title: "Basket" },
      context: {
        page: { url: "https://other.example/", title: "Other", referrer: "https://www.Search.example/q?x=1" },
      },
    }))
    assert.include(click, {
      url: "https://shop.example/basket?utm_source=mail&utm_campaign=spring",
      path: "/basket",
      title: "Basket",
      referrerHost: "www.search.example",
      user: "a",
      timeRule: "received",
    })
    assert.deepStrictEqual(click.campaign, { source: "mail", medium: null, name: "spring", term: null, content: null })
  })

  const garbage = ["nowhere", "www.shop.com/p/1", "http://[", "left-menu"]
  for (const address of garbage) {
    it(`refuses a page whose only address is ${address}, and says which field`, () => {
      const refused = toClick(page({ properties: { path: address }, context: { page: { url: address } } }))
      assert.strictEqual(Result.isFailure(refused) && refused.failure.field, "context.page.url")
    })

    it(`does not take ${address} for the page of a track`, () => {
      const properties = { url: address, path: address, title: "Shoes", referrer: "https://other.example/" }
      const click = clickOf(
        page({ type: "track", event: "Clicked", properties, context: { page: { path: "/shoes" } } }),
      )
      assert.include(click, { path: "/shoes", title: null, referrerHost: null })
    })

    it(`finds the page's address behind ${address}`, () => {
      const click = clickOf(
        page({ properties: { url: address }, context: { page: { url: "https://shop.example/a" } } }),
      )
      assert.include(click, { url: "https://shop.example/a", path: "/a" })
    })
  }

  for (const address of ["file:///home/ann/a.html", "about:blank", "capacitor://localhost/", "javascript:alert(1)"]) {
    it(`keeps a click on ${address} without an address, unless there is another`, () => {
      assert.include(clickOf(page({ context: { page: { url: address } } })), { url: null, path: null })
      assert.include(clickOf(page({ context: { page: { url: address, path: "/" } } })), { url: "/", path: "/" })
    })
  }

  it("keys identities so that what is said later replaces what was said before", () => {
    const common = { messageId: "m", receivedAt: "2026-05-17T10:00:10.000Z", source: "web", userId: "u/1" }
    const ids = ([
      { ...common, type: "identify" },
      { ...common, type: "group", groupId: "g" },
      { ...common, type: "alias", previousId: "old" },
      { ...common, type: "alias", previousId: "x".repeat(512) },
    ] satisfies ReadonlyArray<RawIdentity>).map((one) => toIdentity(one).id)
    assert.deepStrictEqual(ids.slice(0, 3), ["identify/u%2F1", "group/u%2F1/g", "alias/old/u%2F1"])
    assert.match(ids[3]!, /^alias\/[\w-]{43}$/)
  })
})

describe("PageAddress", () => {
  const cases: ReadonlyArray<readonly [string | null, string | null, string | null]> = [
    ["https://user:pw@Shop.example:8443/a/b?x=1#top", "https://shop.example:8443/a/b?x=1", "/a/b"],
    ["/a//b.html?x=1#top", "/a//b.html?x=1", "/a//b.html"],
    ["//not-a-host/x", "//not-a-host/x", "//not-a-host/x"],
    ["/?mail=ann%40example.org&x=1", "/?mail=***&x=1", "/"],
    ["http://[", null, null],
    ["data:text/html,x", null, null],
    [null, null, null],
  ]
  for (const [address, url, path] of cases) {
    it(`of ${address}`, () => assert.deepInclude(PageAddress.parse(address), { url, path }))
  }

  it("is cut where it is too long", () => {
    assert.strictEqual(PageAddress.parse(`/${"x".repeat(9_000)}`).url?.length, 2_048)
  })
})

describe("Device", () => {
  const cases: ReadonlyArray<readonly [string, Device.Device]> = [
    [
      "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
      { browser: "Chrome", os: "Windows", device: "desktop", bot: false },
    ],
    [
      "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
      { browser: "Safari", os: "iOS", device: "mobile", bot: false },
    ],
    ["curl/8.1.2", { browser: null, os: null, device: "bot", bot: true }],
    ["", { browser: null, os: null, device: null, bot: false }],
  ]
  for (const [userAgent, device] of cases) {
    it(`of ${userAgent.slice(0, 40)}`, () => assert.deepStrictEqual(Device.of(userAgent), device))
  }

  it("knows the bot of a search engine", () => {
    const device = Device.of("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
    assert.include(device, { bot: true, device: "bot" })
  })
})

describe("EventTime", () => {
  const receivedAt = "2026-05-17T10:00:10.000Z"
  const at = (time: string) => Date.parse(time)
  it("frees a time from the error of the sender's clock", () => {
    const wrong = { timestamp: "2019-01-01T00:00:00Z", sentAt: "2019-01-01T00:00:03Z", receivedAt }
    assert.deepStrictEqual(corrected(wrong), { time: at("2026-05-17T10:00:07Z"), rule: "corrected" })
  })
  it("keeps a time that came without the time of sending", () => {
    const given = { timestamp: "2015-05-17T10:05:03.000Z", sentAt: null, receivedAt }
    assert.deepStrictEqual(corrected(given), { time: at("2015-05-17T10:05:03Z"), rule: "given" })
  })
  it("never says that something has happened after it was received", () => {
    const future = { timestamp: "2026-05-17T11:00:00Z", sentAt: "2026-05-17T10:00:00Z", receivedAt }
    assert.deepStrictEqual(corrected(future), { time: at(receivedAt), rule: "clamped" })
    assert.deepStrictEqual(corrected({ timestamp: "2099-01-01", receivedAt }), {
      time: at(receivedAt),
      rule: "clamped",
    })
  })
  it("is the time of receiving where none was given", () => {
    assert.deepStrictEqual(corrected({ receivedAt }), { time: at(receivedAt), rule: "received" })
  })
  it("reads ISO 8601 as trackers write it, and nothing else", () => {
    for (
      const text of [
        "2026-05-17T10:05:03.000Z",
        "2026-05-17T10:05:03Z",
        "2026-05-17 10:05:03",
        "2026-05-17T12:05:03+0200",
      ]
    ) {
      assert.strictEqual(millisOf(text), at("2026-05-17T10:05:03Z"), text)
    }
    assert.strictEqual(millisOf("2026-05-17"), at("2026-05-17T00:00:00Z"))
    for (const text of ["", "yesterday", "1747476303000", "2026-13-17T10:05:03Z", "17/May/2015:10:05:03 +0000"]) {
      assert.isNaN(millisOf(text), text)
    }
  })
})

describe("A click without a look at its device", () => {
  it("is the same otherwise, and says so", () => {
    const userAgent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    const message = page({ context: { userAgent, page: { url: "https://shop.example/a" } } })
    const bare = toBareClick(message)
    const whole = clickOf(message)
    assert.isTrue(whole.bot)
    assert.deepStrictEqual(
      Result.isSuccess(bare) && bare.success,
      { ...whole, browser: null, os: null, device: null, bot: false, skipped: "device" },
    )
    assert.isTrue(Result.isFailure(toBareClick(page({ context: { page: { url: "no address" } } }))))
  })
})
