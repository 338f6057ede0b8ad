/** What a replay writes down before it does it: what undoing it needs, and how far it has come. */
import { Effect, Result, Schema } from "effect"
import { link, open, readFile, rename, unlink } from "node:fs/promises"
import { dirname } from "node:path"
import { JournalError } from "./ReplayError.ts"

const Place = { topic: Schema.String, partition: Schema.Int }

export const Entry = Schema.Struct({
  version: Schema.Literal(1),
  id: Schema.String,
  kind: Schema.Literals(["in-place", "shadow", "cut-over"]),
  pipeline: Schema.String,
  group: Schema.String,
  /** When it began, as ISO 8601. */
  began: Schema.String,
  /**
   * `intended`: positions and state may have been moved, or not: what the group stands at tells. `applied`: they have.
   * `finished`: what was to be processed is.
   */
  step: Schema.Literals(["intended", "applied", "finished", "undone", "forgotten"]),
  /** Where the group stood, with what the brokers kept beside its positions. */
  before: Schema.Array(Schema.Struct({ ...Place, offset: Schema.Int, metadata: Schema.String })),
  /** Where it was moved. Records below `below` are replayed. */
  moved: Schema.Array(Schema.Struct({ ...Place, offset: Schema.Int, below: Schema.optionalKey(Schema.Int) })),
  /** Where processing ends, in the topics that are replayed. */
  ends: Schema.Array(Schema.Struct({ ...Place, offset: Schema.Int })),
  /** Whether nothing beyond the ends is processed. */
  isBounded: Schema.Boolean,
  /** Stores that were reset, and the topics that their content was kept in. */
  stores: Schema.Array(
    Schema.Struct({ store: Schema.String, flow: Schema.Int, backup: Schema.optionalKey(Schema.String) }),
  ),
  /** Of a shadow: the topics that it writes instead. */
  renamed: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
  /** Of a shadow: where the live topics ended when the live group stood at `ends`. */
  live: Schema.optionalKey(Schema.Struct({
    /** Whether that is so to the record: it is not where the live group did not stand still for a moment. */
    isExact: Schema.Boolean,
    ends: Schema.Array(Schema.Struct({ ...Place, offset: Schema.Int })),
    /** Whether the shadow has read everything that ever was in the live group's inputs. */
    isWhole: Schema.Boolean,
  })),
})
export type Entry = typeof Entry.Type

/** Where a replay is written down. */
export interface Journal {
  readonly save: (entry: Entry) => Effect.Effect<void, JournalError>
}

const EntryText = Schema.fromJsonString(Entry)
const decodeEntry = Schema.decodeUnknownResult(EntryText)

/**
 * A file that only its owner reads: it is replaced as a whole, and on the disk before a step is made. One that holds another
 * replay is never replaced: two that begin at the same moment do not lose each other's way back.
 */
export const file = (path: string): Journal => ({
  save: (entry) =>
    Effect.tryPromise({
      try: async () => {
        const written = `${path}.${entry.id}.new`
        const handle = await open(written, "w", 0o600)
        try {
          await handle.chmod(0o600)
          await handle.writeFile(`${JSON.stringify(entry, undefined, 1)}\n`)
          await handle.sync()
        } finally {
          await handle.close()
        }
        if (await holds(path, entry)) await rename(written, path)
        else {
          // Unlike a renaming it fails where somebody else was faster.
          await link(written, path).finally(() => unlink(written))
        }
        await synced(dirname(path))
      },
      catch: (cause) => new JournalError({ message: `${path} cannot be written: ${messageOf(cause)}` }),
    }),
})

/** Whether a file of this replay is there. */
const holds = async (path: string, { id }: Entry): Promise<boolean> => {
  const text = await readFile(path, "utf8").catch((error: { readonly code?: string }) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  if (text === undefined) return false
  const held = decodeEntry(text)
  if (Result.isFailure(held) || held.success.id !== id) throw new Error("it holds something else")
  return true
}

/** A name is on the disk when its directory is. */
const synced = async (directory: string): Promise<void> => {
  const handle = await open(directory, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Reads what a replay has written down. */
export const load = (path: string): Effect.Effect<Entry, JournalError> =>
  Effect.flatMap(
    Effect.tryPromise({
      try: () => readFile(path, "utf8"),
      catch: (cause) => new JournalError({ message: `${path} cannot be read: ${messageOf(cause)}` }),
    }),
    (text) =>
      Effect.fromResult(
        Result.mapError(
          decodeEntry(text),
          () => new JournalError({ message: `${path} is no file of a replay, or one of another version` }),
        ),
      ),
  )

const messageOf = (cause: unknown): string => cause instanceof Error ? cause.message : "not an Error"
