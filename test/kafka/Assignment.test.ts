import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  assign,
  decodeAssigned,
  decodeOwned,
  encodeAssigned,
  encodeOwned,
  type Member,
  ownersIn,
  taskKey,
} from "../../src/kafka/Assignment.ts"
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from "../../src/kafka/ConsumerProtocol.ts"
import { type Dice, forSeeds } from "../support/Seeds.ts"

const shuffled = <A>(dice: Dice, items: ReadonlyArray<A>): Array<A> =>
  items.map((item) => [dice.next(), item] as const).sort(([a], [b]) => a - b).map(([, item]) => item)

describe("assign", () => {
  it.effect("gives every task to one member, evenly per flow and in total, whatever the members' order", () =>
    forSeeds(300, (dice) =>
      Effect.sync(() => {
        const flows = dice.list(1, 3, () => ({ partitions: dice.int(1, 64) }))
        const tasks = flows.flatMap(({ partitions }, flow) =>
          Array.from({ length: partitions }, (_, partition) => ({ flow, partition }))
        )
        const members = dice.list(1, 8, (i): Member => ({
          memberId: `m${i}`,
          generation: dice.int(0, 3),
          tasks: tasks.filter(() => dice.int(0, 4) === 0),
        }))
        const assigned = assign(members, flows)
        const given = [...assigned.values()].flat().map(taskKey)
        assert.deepStrictEqual(given.toSorted(), tasks.map(taskKey).toSorted())
        const loads = [...assigned.values()].map((owned) => owned.length)
        assert.isAtMost(Math.max(...loads) - Math.min(...loads), 1)
        flows.forEach((_, flow) => {
          const perFlow = [...assigned.values()].map((owned) => owned.filter((task) => task.flow === flow).length)
          assert.isAtMost(Math.max(...perFlow) - Math.min(...perFlow), 1)
        })
        assert.deepStrictEqual([...assign(shuffled(dice, members), flows)].sort(), [...assigned].sort())
      })))

  it.effect("moves as few tasks as evenness allows when members come and go", () =>
    forSeeds(300, (dice) =>
      Effect.sync(() => {
        const flows = [{ partitions: dice.int(1, 64) }]
        const before = dice.list(1, 8, (i) => `m${i}`)
        const first = assign(before.map((memberId) => ({ memberId, generation: -1, tasks: [] })), flows)
        const leaves = dice.int(0, 1) === 0 ? [] : [dice.pick(before)]
        const after = [...before.filter((id) => !leaves.includes(id)), ...dice.list(0, 2, (i) => `n${i}`)]
        if (after.length === 0) return
        const second = assign(
          after.map((memberId) => ({ memberId, generation: 1, tasks: first.get(memberId) ?? [] })),
          flows,
        )
        const stayed = after.reduce((sum, id) => {
          const had = new Set((first.get(id) ?? []).map(taskKey))
          return sum + second.get(id)!.filter((task) => had.has(taskKey(task))).length
        }, 0)
        const least = Math.floor(flows[0]!.partitions / after.length)
        const more = flows[0]!.partitions % after.length
        // The best that any even assignment can keep: members with the most keep one more.
        const has = after.map((id) => first.get(id)?.length ?? 0).sort((a, b) => b - a)
        const best = has.reduce((sum, n, i) => sum + Math.min(n, least + (i < more ? 1 : 0)), 0)
        assert.strictEqual(stayed, best)
      })))

  it("believes the later of two members that claim a task", () => {
    const task = { flow: 0, partition: 0 }
    const assigned = assign([
      { memberId: "a", generation: 3, tasks: [task] },
      { memberId: "b", generation: 5, tasks: [task] },
    ], [{ partitions: 1 }])
    assert.deepStrictEqual(assigned.get("b"), [task])
  })
})

describe("ConsumerProtocol", () => {
  it("reads what it writes", () => {
    const userData = encodeOwned({ generation: 7, tasks: [{ flow: 0, partition: 3 }] })
    const subscription = decodeSubscription(encodeSubscription({ topics: ["a", "ä.b"], userData }))
    assert.deepStrictEqual(subscription.topics, ["a", "ä.b"])
    assert.deepStrictEqual(decodeOwned(subscription.userData), { generation: 7, tasks: [{ flow: 0, partition: 3 }] })
    const partitions = [{ topic: "a", partition: 0 }, { topic: "a", partition: 2 }, { topic: "b", partition: 0 }]
    assert.deepStrictEqual(decodeAssignment(encodeAssignment({ partitions, userData })).partitions, partitions)
    assert.deepStrictEqual(decodeAssignment(new Uint8Array()), { partitions: [], userData: new Uint8Array() })
  })

  it("writes Kafka's bytes", () => {
    const subscription = encodeSubscription({ topics: ["ab"], userData: new Uint8Array([9]) })
    assert.deepStrictEqual([...subscription], [0, 0, 0, 0, 0, 1, 0, 2, 97, 98, 0, 0, 0, 1, 9])
    const assignment = encodeAssignment({ partitions: [{ topic: "ab", partition: 5 }], userData: new Uint8Array() })
    assert.deepStrictEqual([...assignment], [0, 0, 0, 0, 0, 1, 0, 2, 97, 98, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0])
  })

  it("tells members where queries about tasks are answered, in words that older ones understand", () => {
    const [a, b, c] = [{ flow: 0, partition: 0 }, { flow: 0, partition: 1 }, { flow: 1, partition: 0 }]
    const endpoint = "http://one"
    assert.deepStrictEqual(decodeOwned(encodeOwned({ generation: 1, tasks: [a], endpoint })), {
      generation: 1,
      tasks: [a],
      endpoint,
    })
    const assignment = new Map([["one", [a, c]], ["two", [b]]])
    const owners = ownersIn(assignment, [{ memberId: "one", endpoint }, { memberId: "two" }])
    assert.deepStrictEqual([...owners], [["0-0", endpoint], ["1-0", endpoint]])
    const told = encodeAssigned({ tasks: [b], owners })
    assert.deepStrictEqual(decodeAssigned(told), { tasks: [b], owners })
    assert.deepStrictEqual(decodeOwned(told).tasks, [b])
    assert.deepStrictEqual(decodeAssigned(encodeOwned({ generation: 0, tasks: [b] })), {
      tasks: [b],
      owners: new Map(),
    })
    assert.deepStrictEqual(decodeAssigned(new Uint8Array([1])), { tasks: [], owners: new Map() })
  })

  it("takes another program's user data for nothing owned", () => {
    assert.deepStrictEqual(decodeOwned(new Uint8Array([1, 2, 3])), { generation: -1, tasks: [] })
  })
})
