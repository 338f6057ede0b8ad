import { assert, describe, it } from "@effect/vitest"
import { Cause, Config, ConfigProvider, Effect, Option, Redacted, Schema } from "effect"
import { createHmac } from "node:crypto"
import { Deliver, Flow, Mask, Personal, Task, Topic } from "../../src/index.ts"
import { topics } from "../../schemas/index.ts"
import { plan } from "../../src/stages/masks/MaskPlan.ts"
import { openKey } from "../../src/stages/masks/MaskPolicy.ts"
import { numbers, running } from "../support/Numbers.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const secret = "0123456789abcdef0123456789abcdef"
const key = { id: "k1", secret: Redacted.make(secret) }
const personal = Personal.mark

/** Tokens computed apart. */
const tokenOf = (text: string, domain = "") =>
  "k1." + createHmac("sha256", secret).update(domain === "" ? text : `${domain}\0${text}`).digest()
    .subarray(0, 16).toString("base64url")

/** What a schema's values are masked to. */
const masked = <A>(schema: Schema.Codec<A, unknown>, values: ReadonlyArray<A>, options?: Mask.Options) =>
  Effect.map(
    running(
      numbers.pipe(Flow.map((n) => values[n]!), Mask.by(schema, { key, ...options })),
      values.map((_, n) => n),
    ),
    (ran) => ran.values,
  )

const Text = Schema.String
const email = (policy?: Personal.Policy) => personal(Text, { category: "email", ...policy && { policy } })

describe("Mask.by", () => {
  it.effect("does with each mark what its category, else its own policy, else the rest is to have", () =>
    Effect.gen(function* () {
      const User = Schema.Struct({
        id: personal(Text, { policy: Mask.tokenise() }),
        email: email(Mask.keepLast(3)),
        name: personal(Text),
        plan: Text,
      })
      const ann = { id: "u1", email: "ann@example.com", name: "Ann", plan: "free" }
      assert.deepStrictEqual(yield* masked(User, [ann]), [{
        id: tokenOf("u1"),
        email: "***com",
        name: "***",
        plan: "free",
      }])
      const options = { categories: { email: Mask.tokenise({ domain: "mail" }) }, otherwise: Mask.replace("somebody") }
      assert.deepStrictEqual(yield* masked(User, [ann], options), [{
        id: tokenOf("u1"),
        email: tokenOf("ann@example.com", "mail"),
        name: "somebody",
        plan: "free",
      }])
      assert.strictEqual(ann.email, "ann@example.com", "values are not changed in place")
    }))

  it.effect("makes the same token of the same text, and another with another key or domain", () =>
    Effect.gen(function* () {
      const schema = Schema.Array(personal(Text, { policy: Mask.tokenise() }))
      const [first] = yield* masked(schema, [["ann", "ben", "ann", ""]])
      assert.deepStrictEqual(first, ["ann", "ben", "ann", ""].map((text) => tokenOf(text)))
      assert.match(first![0]!, /^k1\.[A-Za-z0-9_-]{22}$/)
      const rotated = { id: "k2", secret: Redacted.make(secret.toUpperCase()) }
      const [second] = yield* masked(schema, [["ann"]], { key: rotated })
      assert.match(second![0]!, /^k2\./)
      assert.notStrictEqual(second![0]!.slice(3), first![0]!.slice(3))
      assert.strictEqual(Mask.token(key, "ann"), first![0])
      assert.strictEqual(Mask.token(key, "ann", { domain: "d" }), tokenOf("ann", "d"))
    }))

  it("makes tokens that stay as they are: HMAC-SHA-256 cut to 128 bits", () => {
    assert.strictEqual(
      Mask.token({ id: "a", secret: Redacted.make("k".repeat(32)) }, "text"),
      "a.jTqfVNtPPx463e8_xioDWQ",
    )
  })

  it.effect("shortens addresses to their networks, and hides what is none", () =>
    Effect.gen(function* () {
      const schema = Schema.Array(personal(Text, { policy: Mask.truncateIp }))
      assert.deepStrictEqual(
        yield* masked(schema, [[
          "192.0.2.77",
          "2001:db8:1:2:3:4:5:6",
          "2001:db8::1",
          "::ffff:198.51.100.7",
          "::1",
          "fe80::1%eth0",
          "192.0.2.256",
          "ann",
        ]]),
        [["192.0.2.0", "2001:db8:1::", "2001:db8:0::", "198.51.100.0", "0:0:0::", "fe80:0:0::", "***", "***"]],
      )
    }))

  it.effect("keeps the last characters of a text, whole ones, and none of one that has no more", () =>
    Effect.gen(function* () {
      const schema = Schema.Array(personal(Text, { policy: Mask.keepLast(4) }))
      assert.deepStrictEqual(
        yield* masked(schema, [["4111111111111234", "12345", "1234", "", "a😀😀😀😀"]]),
        [["***1234", "***2345", "***", "***", "***😀😀😀😀"]],
      )
    }))

  it.effect("drops what may be absent, else makes it null or undefined", () =>
    Effect.gen(function* () {
      const p = <S extends Schema.Top>(schema: S) => personal(schema, { policy: Mask.drop })
      const schema = Schema.Struct({
        a: Schema.optionalKey(p(Text)),
        b: Schema.optionalKey(Schema.NullOr(p(Text))),
        c: p(Schema.optionalKey(Schema.Int)),
        d: Schema.NullOr(p(Text)),
        e: p(Schema.NullOr(Schema.Struct({ deep: Text }))),
        f: Schema.UndefinedOr(p(Text)),
        g: Schema.optional(p(Text)),
        h: Schema.Array(Schema.Union([p(Text), Schema.Int])),
        i: Schema.Record(Text, Schema.Union([p(Text), Schema.Int])),
        j: Schema.Option(p(Text)),
      })
      const full = {
        a: "x",
        b: "x",
        c: 1,
        d: "x",
        e: { deep: "x" },
        f: "x",
        g: "x",
        h: ["x", 1, "x", 2],
        i: { one: "x", two: 2 },
        j: Option.some("x"),
      }
      const empty = { d: null, e: null, f: undefined, h: [], i: {}, j: Option.none() }
      assert.deepStrictEqual(yield* masked(schema, [full, empty]), [
        { d: null, e: null, f: undefined, h: [1, 2], i: { two: 2 }, j: Option.none() },
        empty,
      ])
    }))

  it.effect("masks all that a marked object, array or record holds, but what has a mark of its own otherwise", () =>
    Effect.gen(function* () {
      const Address = Schema.Struct({
        street: Text,
        lines: Schema.Array(Text),
        ip: personal(Text, { policy: Mask.truncateIp }),
        more: Schema.NullOr(Schema.Record(Text, Schema.Unknown)),
      })
      const schema = Schema.Struct({ address: personal(Address), open: personal(Schema.Unknown) })
      const address = {
        street: "s",
        lines: ["a", "b"],
        ip: "192.0.2.1",
        more: { a: "x", b: 1, c: { d: "x" }, e: null },
      }
      const out = {
        street: "***",
        lines: ["***", "***"],
        ip: "192.0.2.0",
        more: { a: "***", b: "***", c: "***", e: null },
      }
      assert.deepStrictEqual(
        yield* masked(schema, [{ address, open: { x: 1 } }, { address: { ...address, more: null }, open: null }]),
        [{ address: out, open: "***" }, { address: { ...out, more: null }, open: null }],
      )
    }))

  it.effect("masks a value of a union as what it is", () =>
    Effect.gen(function* () {
      const Track = Schema.Struct({ type: Schema.Literal("track"), who: personal(Text), event: Text })
      const Page = Schema.Struct({ type: Schema.Literals(["page", "screen"]), who: Text, name: personal(Text) })
      const Loose = Schema.Union([
        Schema.Struct({ a: Text, b: personal(Text) }),
        Schema.Struct({ a: personal(Text), c: Text }),
      ])
      const schema = Schema.Union([Track, Page, Schema.Int, Schema.Array(personal(Text)), Schema.Null])
      assert.deepStrictEqual<ReadonlyArray<unknown>>(
        yield* masked(schema as Schema.Codec<unknown>, [
          { type: "track", who: "x", event: "e" },
          { type: "page", who: "x", name: "n" },
          { type: "screen", who: "x", name: "n" },
          7,
          ["x"],
          null,
        ]),
        [
          { type: "track", who: "***", event: "e" },
          { type: "page", who: "x", name: "***" },
          { type: "screen", who: "x", name: "***" },
          7,
          ["***"],
          null,
        ],
      )
      assert.deepStrictEqual(yield* masked(Loose, [{ a: "x", b: "x" }, { a: "x", c: "x" }]), [
        { a: "x", b: "***" },
        { a: "***", c: "x" },
      ])
      // Where a text could be either, it is taken for the one that is marked; in tuples every place is itself.
      const Either = Schema.Union([Text.check(Schema.isMinLength(1)), personal(Text)])
      assert.deepStrictEqual(yield* masked(Either, ["x"]), ["***"])
      const tuple = Schema.TupleWithRest(Schema.Tuple([Text, personal(Text)]), [Schema.Int, personal(Text)])
      assert.deepStrictEqual(yield* masked(tuple, [["a", "b", 1, 2, "c"]]), [["a", "***", 1, 2, "***"]])
    }))

  it.effect("masks what fits nothing of a union as one with marks, rather than not at all", () =>
    Effect.gen(function* () {
      const schema = Schema.Union([
        Schema.Struct({ type: Schema.Literal("a"), who: personal(Text) }),
        Schema.Struct({ type: Schema.Literal("b"), at: Schema.Int }),
      ])
      const wrong = [{ type: "c", who: "x" }, { type: "a", who: "x", at: "not checked" }] as ReadonlyArray<unknown>
      assert.deepStrictEqual(
        yield* masked(schema, wrong as ReadonlyArray<typeof schema.Type>) as Effect.Effect<unknown>,
        [{ type: "c", who: "***" }, { type: "a", who: "***", at: "not checked" }],
      )
    }))

  it.effect("follows recursive schemas, classes, and decoded values", () =>
    Effect.gen(function* () {
      interface Tree {
        readonly who: string
        readonly kids: ReadonlyArray<Tree>
      }
      const Tree: Schema.Codec<Tree> = Schema.Struct({
        who: personal(Text),
        kids: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree)),
      })
      const tree = (who: string): Tree => ({ who, kids: [{ who, kids: [] }, { who, kids: [{ who, kids: [] }] }] })
      assert.deepStrictEqual(yield* masked(Tree, [tree("x")]), [tree("***")])

      class Person extends Schema.Class<Person>("Person")({ name: personal(Text), born: Schema.Int }) {
        get greeting() {
          return `Hello, ${this.name}`
        }
      }
      const [person] = yield* masked(Schema.NullOr(Person), [new Person({ name: "x", born: 1 })])
      assert.instanceOf(person, Person)
      assert.strictEqual(person!.greeting, "Hello, ***")
      assert.strictEqual(person!.born, 1)

      const Decoded = Schema.Struct({
        trimmed: personal(Text).pipe(Schema.decodeTo(Schema.String)),
        at: Schema.NullOr(personal(Schema.DateTimeUtcFromMillis, { policy: Mask.drop })),
      })
      const [decoded] = yield* masked(Decoded, [Schema.decodeUnknownSync(Decoded)({ trimmed: "x", at: 1 })])
      assert.deepStrictEqual(decoded, { trimmed: "***", at: null })
    }))

  it.effect("sees marks on checked, branded and annotated schemas alike", () =>
    Effect.gen(function* () {
      const schema = Schema.Tuple([
        personal(Text).check(Schema.isMinLength(1), Schema.isMaxLength(9)),
        personal(Text.check(Schema.isMinLength(1))).annotate({ description: "later" }),
        personal(Text).pipe(Schema.brand("Name")),
        personal(Text.check(Schema.isMinLength(1))).check(Schema.isMaxLength(9)),
      ])
      const brand = schema.elements[2].make("x")
      assert.deepStrictEqual<unknown>(yield* masked(schema, [["x", "x", brand, "x"]]), [["***", "***", "***", "***"]])
    }))

  it.effect("tokenises the names of a record where they are marked", () =>
    Effect.gen(function* () {
      const schema = Schema.Record(personal(Text, { policy: Mask.tokenise() }), Schema.Int)
      assert.deepStrictEqual(yield* masked(schema, [{ ann: 1, ben: 2 }]), [{
        [tokenOf("ann")]: 1,
        [tokenOf("ben")]: 2,
      }])
      const named = JSON.parse('{"__proto__": "x", "a": "y"}') as Record<string, string>
      const [out] = yield* masked(Schema.Record(Text, personal(Text)), [named])
      assert.deepStrictEqual(Object.entries(out!), [["__proto__", "***"], ["a", "***"]])
      assert.throws(() => Mask.by(Schema.Record(personal(Text), Schema.Int)), RangeError, "names of a record")
    }))

  it.effect("keeps fields that its schema does not know, which later stages have added", () =>
    Effect.gen(function* () {
      const mask = Mask.by(Schema.Struct({ who: personal(Text) }))
      const flow = numbers.pipe(Flow.map((n) => ({ who: "x", n })), mask, Flow.map(({ who, n }) => `${who} ${n}`))
      assert.deepStrictEqual((yield* running(flow, [1, 2], [1])).values, ["*** 1", "*** 2"])
    }))

  it.effect("masks the key that is delivered, by the contract's key or the record's own", () =>
    Effect.gen(function* () {
      const User = Schema.Struct({ user: personal(Text, { policy: Mask.tokenise() }) })
      const common = { description: "Test", owner: "tests", partitions: 1, schema: User }
      const Keyed = Topic.make({ ...common, name: "keyed", key: ["user", ({ user }) => user] })
      const Plain = Topic.make({ ...common, name: "plain" })
      const value = `{"user":"${tokenOf("ann")}"}`
      const sent = (to: typeof Keyed, options?: Mask.Options) =>
        Effect.map(
          running(
            numbers.pipe(Flow.map(() => ({ user: "ann" })), Mask.by(User, { key, ...options }), Deliver.to(to)),
            [[1, "ann"], [2, null]],
          ),
          ({ outgoing }) => outgoing,
        )
      assert.deepStrictEqual(yield* sent(Keyed), Array(2).fill(`keyed ${tokenOf("ann")}=${value}`))
      assert.deepStrictEqual(yield* sent(Plain), [`plain ann=${value}`, `plain null=${value}`])
      assert.deepStrictEqual(yield* sent(Plain, { recordKey: "tokenise" }), [
        `plain ${tokenOf("ann")}=${value}`,
        `plain null=${value}`,
      ])
      assert.deepStrictEqual(yield* sent(Plain, { recordKey: "drop" }), Array(2).fill(`plain null=${value}`))
    }))

  it.effect("gets its secret from where it is kept, once per task, and refuses one that is too short", () =>
    Effect.gen(function* () {
      let asked = 0
      const configured = Effect.tap(Config.Redacted("SECRET"), () => Effect.sync(() => asked++))
      const schema = personal(Text, { policy: Mask.tokenise() })
      const flow = numbers.pipe(Flow.map(String), Mask.by(schema, { key: { id: "k1", secret: configured } }))
      const from = (value: string) => ConfigProvider.layer(ConfigProvider.fromUnknown({ SECRET: value }))
      const { values } = yield* Effect.provide(running(flow, [1, 2], [1]), from(secret))
      assert.deepStrictEqual(values, [tokenOf("1"), tokenOf("2")])
      assert.strictEqual(asked, 1)
      const refused = yield* Effect.flip(Effect.provide(running(flow, [1]), from("short")))
      assert(refused instanceof Task.PipelineError)
      assert.deepInclude(refused, { reason: "Definition", retriable: false })
      assert.notInclude(refused.message, "short")
    }))

  it("refuses, when it is made, policies that a field cannot have", () => {
    const by = (schema: Schema.Top, options?: Mask.Options) => () =>
      Mask.by(schema as Schema.Codec<unknown>, { key, ...options })
    const field = (schema: Schema.Top) => Schema.Struct({ user: Schema.Struct({ it: schema }) })
    const p = (schema: Schema.Top, policy?: Personal.Policy) => field(personal(schema, policy && { policy }))
    assert.throws(by(p(Schema.Int)), RangeError, "Mask: user.it is or holds personal data, and Redact is for text")
    assert.throws(by(p(Schema.Date, Mask.keepLast(2))), RangeError, "user.it")
    assert.throws(by(p(Schema.Array(Schema.Boolean))), RangeError, "user.it[]")
    assert.throws(by(p(Text, Mask.drop)), RangeError, "nothing may stand in its place")
    assert.throws(by(personal(Text, { policy: Mask.drop })), RangeError, "Mask: the value is")
    assert.throws(by(Schema.Tuple([personal(Text, { policy: Mask.drop })])), RangeError, "[0]")
    assert.throws(by(p(Schema.Int, Mask.replace("text"))), RangeError, "does not take what is to replace it")
    assert.throws(by(p(Text.check(Schema.isPattern(/^ord_/u)), Mask.tokenise())), RangeError, '"k1.AAAA')
    assert.throws(by(p(Text.check(Schema.isMaxLength(2)))), RangeError, '"***"')
    assert.throws(by(p(Schema.Literals(["a", "b"]))), RangeError, '"***"')
    assert.throws(by(p(Text.check(Schema.isMaxLength(5)), Mask.keepLast(3))), RangeError, '"***000"')
    assert.throws(by(field(Schema.ReadonlyMap(Text, personal(Text)))), RangeError, "out of reach")
    const hidden = Schema.Struct({ who: personal(Text) }).pipe(
      Schema.decodeTo(Schema.Struct({ n: Schema.Int }), {
        decode: { run: (input: unknown) => Effect.succeed(input as never) } as never,
        encode: { run: (input: unknown) => Effect.succeed(input as never) } as never,
      } as never),
    )
    assert.throws(by(field(hidden)), RangeError, "mark what is decoded")
  })

  it("refuses options that say nothing, or too little", () => {
    const Email = Schema.Struct({ email: email() })
    assert.throws(() => Mask.by(Schema.Struct({ n: Schema.Int })), RangeError, "nothing in the schema is marked")
    assert.throws(() => Mask.by(Email, { categories: { emial: Mask.redact } }), RangeError, "marked as emial")
    assert.throws(() => Mask.by(Email, { otherwise: Mask.tokenise() }), RangeError, "none is given")
    assert.throws(() => Mask.by(Email, { recordKey: "tokenise" }), RangeError, "none is given")
    assert.throws(() => Mask.by(Email, { key: { id: "a.b", secret: Redacted.make(secret) } }), RangeError, "id")
    assert.throws(() => Mask.by(Email, { key: { id: "a", secret: Redacted.make("short") } }), RangeError, "5 bytes")
    assert.throws(() => Mask.keepLast(0), RangeError, "count")
    assert.throws(() => Mask.tokenise({ domain: "a\0" }), RangeError, "domain")
  })

  it.effect("goes by the schema that masked values are for, where that is another", () =>
    Effect.gen(function* () {
      const Order = Schema.Struct({
        items: Schema.Array(Schema.Struct({ buyer: personal(Text.check(Schema.isPattern(/^u\d+$/u))) })),
        note: Schema.NullOr(personal(Schema.Literals(["a", "b"]))),
      })
      const Masked = Schema.NullOr(Schema.Struct({ items: Schema.Array(Schema.Struct({ buyer: Text })) }))
      assert.throws(() => Mask.by(Order), RangeError, "items[].buyer")
      const out = yield* masked(Order, [{ items: [{ buyer: "u1" }], note: "a" }], { into: Masked })
      assert.deepStrictEqual<unknown>(out, [{ items: [{ buyer: "***" }], note: "***" }])
      const Narrow = Schema.Struct({ items: Schema.Array(Schema.Struct({ buyer: Schema.Literal("nobody") })) })
      assert.throws(() => Mask.by(Order, { into: Narrow }), RangeError, "items[].buyer")
      const nobody = yield* masked(Order, [{ items: [{ buyer: "u1" }], note: null }], {
        into: Topic.make({ name: "masked", description: "", owner: "", schema: Narrow, partitions: 1 }),
        otherwise: Mask.replace("nobody"),
      })
      assert.deepStrictEqual<unknown>(nobody, [{ items: [{ buyer: "nobody" }], note: null }])
    }))

  it.effect("masks the contracts of the clickstream", () =>
    Effect.gen(function* () {
      const { raw, enriched, identities } = topics()
      const message = {
        type: "track",
        messageId: "m1",
        event: "bought",
        userId: "ann",
        anonymousId: null,
        receivedAt: "2026-05-17T10:05:03.000Z",
        source: "shop",
        context: { ip: "192.0.2.1", page: { url: "https://example.com/ann" } },
      } as const
      const options = { key, otherwise: Mask.tokenise() }
      const [track] = yield* masked(raw.schema as Schema.Codec<typeof message>, [message], options)
      assert.deepStrictEqual<unknown>(track, {
        ...message,
        userId: tokenOf("ann"),
        context: { ip: tokenOf("192.0.2.1"), page: "***" },
      })
      assert.isTrue(Schema.is(raw.schema as Schema.Codec<unknown>)(track))
      Mask.by(enriched, options)
      Mask.by(identities, options)
    }))

  it.effect("takes a value that cannot be walked for a defect at its record", () =>
    Effect.gen(function* () {
      const broken = {
        get who(): string {
          throw new Error("unreadable")
        },
      }
      const exit = yield* Effect.exit(masked(Schema.Struct({ who: personal(Text) }), [{ who: "x" }, broken]))
      assert(exit._tag === "Failure")
      assert.include(String(Cause.squash(exit.cause)), "offset 1: Error: unreadable")
    }))

  it.effect("masks random values of random schemas as they were made to be masked", () =>
    forSeeds(300, (dice) =>
      Effect.sync(() => {
        const { schema, draw } = drawn(dice, 3)
        const root = Schema.Struct({ it: schema, who: personal(Text) })
        const mask = plan(root.ast, {
          policyOf: (mark) => mark.policy ?? Mask.redact,
          keyId: "k1",
          key: () => openKey("k1", secret),
          into: undefined,
        })!
        for (let i = 0; i < 20; i++) {
          const [it, expected] = draw(dice)
          const value = { it, who: "secret" }
          const before = structuredClone(plain(value))
          const after = mask(value)
          assert.deepStrictEqual(after, { it: orNull(expected), who: "***" })
          assert.deepStrictEqual(plain(value), before, "values are not changed in place")
          assert.isTrue(Schema.is(root as Schema.Codec<unknown>)(after), "and keep their type")
          assert.notInclude(JSON.stringify(plain(after)), "secret")
        }
      })))
})

/** Without prototypes, for cloning. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value) ?? "null")

interface Drawn {
  readonly schema: Schema.Codec<unknown>
  /** A value and what it is to become. */
  draw(dice: Dice): readonly [unknown, unknown]
}

/** A random schema, whose marked texts begin with "secret" and others with "open". */
const drawn = (dice: Dice, depth: number): Drawn => {
  const texts: ReadonlyArray<() => Drawn> = [
    () => ({ schema: Text, draw: (dice) => same(`open${dice.int(0, 99)}`) }),
    () => ({ schema: Schema.Int, draw: (dice) => same(dice.int(0, 99)) }),
    () => ({ schema: Schema.Boolean, draw: () => same(true) }),
    () => ({ schema: personal(Text), draw: (dice) => [`secret${dice.int(0, 99)}`, "***"] }),
    () => ({
      schema: personal(Text, { policy: Mask.tokenise() }).check(Schema.isMinLength(2)),
      draw: (dice) => {
        const text = `secret${dice.int(0, 99)}`
        return [text, tokenOf(text)]
      },
    }),
    () => ({
      schema: Schema.NullOr(personal(Text, { policy: Mask.drop })),
      draw: (dice) => dice.pick([same(null), ["secret", gone] as const]),
    }),
    () => ({ schema: personal(Schema.Array(Text)), draw: (dice) => many(dice, () => ["secret", "***"]) }),
  ]
  const nests: ReadonlyArray<() => Drawn> = [
    () => {
      const fields = dice.list(1, 4, (i) => ({
        name: `f${i}`,
        optional: dice.int(0, 2) === 0,
        dropped: dice.int(0, 3) === 0,
        ...drawn(dice, depth - 1),
      }))
      return {
        schema: Schema.Struct(Object.fromEntries(fields.map(({ name, optional, dropped, schema }) => {
          const marked = dropped && optional ? personal(schema as Schema.Top, { policy: Mask.drop }) : schema
          return [name, optional ? Schema.optionalKey(marked) : marked]
        }))) as Schema.Top as Schema.Codec<unknown>,
        draw: (dice) => {
          const before: Record<string, unknown> = {}
          const after: Record<string, unknown> = {}
          for (const { name, optional, dropped, draw } of fields) {
            const [value, masked] = draw(dice)
            if (optional && dice.int(0, 1) === 0) continue
            before[name] = value
            if (!optional) after[name] = orNull(masked)
            else if (!dropped && masked !== gone) after[name] = masked
          }
          return [before, after]
        },
      }
    },
    () => {
      const { schema, draw } = drawn(dice, depth - 1)
      return { schema: Schema.Array(schema), draw: (dice) => many(dice, () => draw(dice)) }
    },
    () => {
      const { schema, draw } = drawn(dice, depth - 1)
      return {
        schema: Schema.Record(Text, schema),
        draw: (dice) => {
          const entries = dice.list(0, 3, (i) => [`key${i}`, draw(dice)] as const)
          return [
            Object.fromEntries(entries.map(([name, [before]]) => [name, before])),
            Object.fromEntries(entries.flatMap(([name, [, after]]) => after === gone ? [] : [[name, after]])),
          ]
        },
      }
    },
    () => {
      const { schema, draw } = drawn(dice, depth - 1)
      return {
        schema: Schema.Option(schema),
        draw: (dice) => {
          if (dice.int(0, 2) === 0) return same(Option.none())
          const [before, after] = draw(dice)
          return [Option.some(before), after === gone ? Option.none() : Option.some(after)]
        },
      }
    },
    () => {
      const members = dice.list(2, 3, (i) => ({ tag: `t${i}`, ...drawn(dice, depth - 1) }))
      return {
        schema: Schema.Union(
          members.map(({ tag, schema }) => Schema.Struct({ tag: Schema.Literal(tag), it: schema })),
        ) as Schema.Codec<unknown>,
        draw: (dice) => {
          const { tag, draw } = dice.pick(members)
          const [before, after] = draw(dice)
          return [{ tag, it: before }, { tag, it: orNull(after) }]
        },
      }
    },
    () => {
      const { schema, draw } = drawn(dice, depth - 1)
      const boxed = Schema.Struct({ boxed: schema })
      return {
        schema: Schema.Union([Schema.Null, Schema.Int, boxed]) as Schema.Codec<unknown>,
        draw: (dice) => {
          const which = dice.int(0, 2)
          if (which < 2) return same(which === 0 ? null : 7)
          const [before, after] = draw(dice)
          return [{ boxed: before }, { boxed: orNull(after) }]
        },
      }
    },
  ]
  return dice.pick(depth === 0 ? texts : [...texts, ...nests, ...nests])()
}

/** What is dropped, where something is around it that can do without. */
const gone = Symbol("gone")
const orNull = (value: unknown) => value === gone ? null : value

const same = (value: unknown) => [value, value] as const

const many = (dice: Dice, draw: () => readonly [unknown, unknown]): readonly [unknown, unknown] => {
  const items = dice.list(0, 3, draw)
  return [items.map(([before]) => before), items.map(([, after]) => after).filter((after) => after !== gone)]
}
