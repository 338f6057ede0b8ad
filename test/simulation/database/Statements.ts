/**
 * The statements that the Postgres guarantee, its outbox and the clickstream's tables send, and what they do. Any other is
 * refused, so that a statement that changes does not go by unnoticed.
 */
import { Effect } from "effect"
import type { Task } from "../../../src/index.ts"
import type { Row, Storage, Transaction } from "./Storage.ts"

/** A statement as the driver is given it; `?` stands for a parameter. */
export interface Statement {
  readonly text: string
  readonly values: ReadonlyArray<unknown>
}

export type Answer = ReadonlyArray<Row> & { readonly count: number }

const answer = (rows: ReadonlyArray<Row>, count = rows.length): Answer => Object.assign([...rows], { count })

const positions = "millrace_positions"
const outbox = "millrace_outbox"

type List = ReadonlyArray<never>

interface Does {
  readonly begins: RegExp
  run(
    tx: Transaction,
    values: ReadonlyArray<unknown>,
    text: string,
    storage: Storage,
  ): Effect.Effect<Answer, Task.PipelineError>
}

const nothing = Effect.succeed(answer([]))

const keyOf = (group: unknown, topicId: unknown, partition: unknown) => `${group}/${topicId}/${partition}`

/** Locks in the order of the statement, and then looks: what others have committed meanwhile counts. */
const locked = (tx: Transaction, table: string, keys: ReadonlyArray<string>) =>
  Effect.as(Effect.forEach(keys, (key) => tx.lock(table, key), { discard: true }), keys)

const owned = (tx: Transaction, [group, topicIds, partitions]: ReadonlyArray<unknown>) => {
  const keys = (topicIds as List).map((id, i) => keyOf(group, id, (partitions as List)[i]))
  return Effect.map(
    locked(tx, positions, keys.filter((key) => tx.get(positions, key) !== undefined).sort()),
    (keys) => keys.map((key) => [key, tx.get(positions, key)!] as const),
  )
}

const outboxKey = (group: unknown, id: unknown) => `${group}/${id}`

const known: ReadonlyArray<Does> = [
  {
    begins: /^(select pg_advisory_xact_lock|set local|create table if not exists millrace_positions)/,
    run: () => nothing,
  },
  {
    begins: /^select topic_id, partition, next, epoch from millrace_positions/,
    run: (tx, values) => Effect.map(owned(tx, values), (rows) => answer(rows.map(([, row]) => row))),
  },
  {
    begins: /^update millrace_positions p set epoch = p\.epoch \+ 1/,
    run: (tx, values) =>
      Effect.map(owned(tx, values), (rows) =>
        answer(rows.map(([key, row]) => {
          const raised = { ...row, epoch: Number(row["epoch"]) + 1 }
          tx.put(positions, key, raised)
          return raised
        }))),
  },
  {
    begins: /^update millrace_positions p set next = m\.next/,
    run: (tx, [ids, partitions, olds, nexts, epochs, group], text) => {
      const moves = (ids as List).map((id, i) => ({
        key: keyOf(group, id, (partitions as List)[i]),
        old: (olds as List)[i]!,
        next: (nexts as List)[i]!,
        epoch: (epochs as List)[i]!,
      }))
      const fits = (row: Row, { old, epoch }: typeof moves[number]) =>
        (!text.includes("p.next = m.old") || row["next"] === old) &&
        (!text.includes("p.epoch = m.epoch") || row["epoch"] === epoch)
      return Effect.map(locked(tx, positions, moves.map(({ key }) => key)), () => {
        const moved = moves.filter((move) => {
          const row = tx.get(positions, move.key)
          if (row === undefined || !fits(row, move)) return false
          tx.put(positions, move.key, { ...row, next: move.next })
          return true
        })
        return answer([], moved.length)
      })
    },
  },
  {
    begins: /^insert into millrace_positions/,
    run: (tx, [group, ids, , partitions, nexts]) => {
      const keys = (ids as List).map((id, i) => keyOf(group, id, (partitions as List)[i]))
      return Effect.map(locked(tx, positions, keys), () =>
        answer(keys.map((key, i) => {
          const before = tx.get(positions, key)
          const row = before === undefined
            ? { topic_id: (ids as List)[i], partition: (partitions as List)[i], next: (nexts as List)[i], epoch: 1 }
            : { ...before, epoch: Number(before["epoch"]) + 1 }
          tx.put(positions, key, row)
          return row
        })))
    },
  },
  {
    begins: /^update millrace_outbox set refused = null/,
    run: (tx, [group]) =>
      Effect.sync(() => {
        for (const row of tx.all(outbox)) {
          if (row["group"] === group && row["refused"] !== null) {
            tx.put(outbox, outboxKey(group, row["id"]), { ...row, refused: null })
          }
        }
        return answer([])
      }),
  },
  {
    begins: /^select seq, id, topic, partition, key, value, headers/,
    run: (tx, [group, limit]): Effect.Effect<Answer, Task.PipelineError> => {
      const isDue = (row: Row): boolean => row["group"] === group && row["refused"] === null
      const due = tx.all(outbox).filter(isDue).sort((a, b) => Number(a["seq"]) - Number(b["seq"]))
      const keys = due.slice(0, Number(limit)).map(({ id }) => outboxKey(group, id))
      return Effect.map(
        locked(tx, outbox, keys),
        (keys) =>
          answer(
            keys.map((key) => tx.get(outbox, key)).filter((row) => row !== undefined).filter(isDue).map((row) => ({
              ...row,
              headers: JSON.parse(String(row["headers"])),
            })),
          ),
      )
    },
  },
  {
    begins: /^delete from millrace_outbox/,
    run: (tx, [seqs]) =>
      Effect.sync(() => {
        const gone = new Set<unknown>(seqs as List)
        for (const row of tx.all(outbox)) {
          if (gone.has(row["seq"])) tx.put(outbox, outboxKey(row["group"], row["id"]), undefined)
        }
        return answer([])
      }),
  },
  {
    begins: /^update millrace_outbox set refused = \? where seq/,
    run: (tx, [refused, seq]) =>
      Effect.sync(() => {
        const row = tx.all(outbox).find((row) => row["seq"] === seq)
        if (row !== undefined) tx.put(outbox, outboxKey(row["group"], row["id"]), { ...row, refused })
        return answer([])
      }),
  },
  {
    begins: /^insert into millrace_outbox/,
    run: (tx, [group, id, topic, partition, key, value, headers], _, storage) => {
      const place = outboxKey(group, id)
      return Effect.map(locked(tx, outbox, [place]), () => {
        const seq = tx.get(outbox, place)?.["seq"] ?? String(storage.next())
        tx.put(outbox, place, { seq, group, id, topic, partition, key, value, headers, refused: null })
        return answer([])
      })
    },
  },
  {
    begins: /^insert into \w+ select \* from jsonb_populate_recordset/,
    run: (tx, [rows], text) => {
      const [, table, columns, action] = /^insert into (\w+) .* on conflict \(([^)]*)\) do (nothing|update)/.exec(text)!
      const names = columns!.split(",").map((name) => name.trim().replaceAll('"', ""))
      const written = (JSON.parse(String(rows)) as ReadonlyArray<Row>).map((row) => ({
        row,
        key: JSON.stringify(names.map((name) => row[name] ?? null)),
      }))
      return Effect.map(locked(tx, table!, written.map(({ key }) => key)), () => {
        for (const { key, row } of written) {
          tx.inserting(table!, row)
          if (action === "update" || tx.get(table!, key) === undefined) tx.put(table!, key, row)
        }
        return answer([])
      })
    },
  },
]

/** Carries a statement out in a transaction. */
export const carryOut = (
  storage: Storage,
  tx: Transaction,
  { text, values }: Statement,
): Effect.Effect<Answer, Task.PipelineError> => {
  const does = known.find(({ begins }) => begins.test(text))
  if (does === undefined) return Effect.die(new Error(`the database of the simulation does not know: ${text}`))
  return does.run(tx, values, text, storage)
}
