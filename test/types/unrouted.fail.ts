import { Aggregate, DeadLetter, Failures, Guarantee, Pipeline, Window } from "../../src/index.ts"
import { checked, Dlt } from "./support.ts"

// A failure that the table leaves out is named.
const open = checked.pipe(Failures.route({ DecodeError: DeadLetter.to(Dlt) }))
//! "unrouted failures": "InvalidClick"
export const one = Pipeline.make("one", open, Guarantee.exactlyOnce())

// So are several.
//! "unrouted failures": "DecodeError" | "InvalidClick"
export const several = Pipeline.make("several", checked, Guarantee.exactlyOnce())

// Late records are failures like any other.
const counted = checked.pipe(
  Aggregate.count({ name: "counts", window: Window.tumbling({ size: "1 minute" }) }),
  Failures.route({ DecodeError: DeadLetter.to(Dlt), InvalidClick: DeadLetter.to(Dlt), Keyless: DeadLetter.to(Dlt) }),
)
//! "unrouted failures": "Late"
export const late = Pipeline.make("late", counted, Guarantee.atLeastOnce())

// What a table perhaps names is not routed.
declare const perhaps: { readonly InvalidClick?: Failures.Route }
const half = checked.pipe(Failures.route({ DecodeError: DeadLetter.to(Dlt), ...perhaps }))
//! "unrouted failures": "InvalidClick"
export const optional = Pipeline.make("optional", half, Guarantee.exactlyOnce())
