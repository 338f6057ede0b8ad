import { Schema } from "effect"
import { Aggregate, Fold, Window } from "../../src/index.ts"
import { checked } from "./support.ts"

const latest = Fold.make({ state: Schema.Int, initial: () => 0, add: (_, click: { readonly at: number }) => click.at })

// Sessions grow together, so their fold must know how to put two states into one.
//! Property 'merge' is missing
export const sessions = checked.pipe(
  Aggregate.windowed({ name: "sessions", window: Window.session({ gap: "30 minutes" }), fold: latest }),
)

// The windows of records that are near each other are made of parts.
//! Property 'merge' is missing
export const sliding = checked.pipe(
  Aggregate.windowed({ name: "sliding", window: Window.sliding({ difference: "1 minute" }), fold: latest }),
)

// Several folds side by side can be merged only if all of them can.
//! Property 'merge' is missing
export const both = checked.pipe(
  Aggregate.windowed({
    name: "both",
    window: Window.session({ gap: "30 minutes" }),
    fold: Fold.all({ latest, count: Fold.count }),
  }),
)

// What is folded for ever is never final.
//! '"final"' is not assignable
export const running = checked.pipe(Aggregate.running({ name: "running", fold: Fold.count, emit: "final" }))

// A window of event time has no number.
//! Property 'number' does not exist
export const unnumbered = (of: Window.Result<Window.Aligned, number>) => of.number
