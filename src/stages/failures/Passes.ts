/** Parts of a batch that the stages inside a stage are given one after the other, and what comes of them as one. */
import type { Batch, Failed } from "../../Batch.ts"
import { gather, row, unitOf, withoutRows, withoutValues } from "../../Batch.ts"

/** A batch for the stages inside, without what others have caused; of it the values at `places`, where they are given. */
export const partOf = <A>(batch: Batch<A, unknown>, places?: Uint32Array): Batch<A> => {
  const bare: Batch<A> = { ...batch, failed: [], dropped: [], folded: [], outgoing: [], changes: [] }
  return places === undefined ? bare : gather(bare, Array.from(places, (i) => batch.values[i]!), places)
}

/** The values of some units. */
export const ofUnits = <A>(batch: Batch<A>, units: ReadonlySet<number>): Batch<A> =>
  partOf(batch, Uint32Array.from(batch.values.keys()).filter((i) => units.has(unitOf(batch, i))))

/** One failure for each unit: one that undoes it, if any does. */
export const distinct = <G>(failed: ReadonlyArray<Failed<G>>): Iterable<Failed<G>> => {
  if (failed.length < 2) return failed
  const byUnit = new Map<number, Failed<G>>()
  for (const failure of failed) {
    const unit = failure.unit ?? failure.row
    const known = byUnit.get(unit)
    if (known === undefined || known.kept && !failure.kept) byUnit.set(unit, failure)
  }
  return byUnit.values()
}

/** What succeeded, without all that has come of `undone`. */
export const succeeded = <B, G>(out: Batch<B, G>, undone: ReadonlyArray<Failed<G>>): Batch<B, G> => ({
  ...withoutValues(out, undone),
  failed: [],
  outgoing: withoutRows(out.outgoing, undone),
  dropped: withoutRows(out.dropped, undone),
})

/**
 * Batches made of parts of one batch, as one: in the order in which their values' units stand in it, those of one unit
 * together. One batch alone too: what is tried again beside a value must not change its place.
 */
export const woven = <A, B, G>(batch: Batch<A, unknown>, passes: ReadonlyArray<Batch<B, G>>): Batch<B, G> => {
  if (passes.length === 1 && batch.units === undefined) return passes[0]!
  const places = new Map<number, number>()
  for (let i = 0; i < batch.values.length; i++) {
    const unit = unitOf(batch, i)
    if (!places.has(unit)) places.set(unit, i)
  }
  if (passes.length === 1 && isInOrder(passes[0]!, places)) return passes[0]!
  const order: Array<
    { readonly pass: Batch<B, G>; readonly at: number; readonly row: number; readonly place: number }
  > = []
  for (const pass of passes) {
    for (let at = 0; at < pass.values.length; at++) {
      order.push({ pass, at, row: row(pass, at), place: places.get(unitOf(pass, at)) ?? -1 })
    }
  }
  order.sort((a, b) => a.row - b.row || a.place - b.place)
  const first = passes[0]!
  const column = (of: (pass: Batch<B, G>) => Float64Array) => Float64Array.from(order, ({ pass, at }) => of(pass)[at]!)
  return {
    ...first,
    values: order.map(({ pass, at }) => pass.values[at]!),
    rows: Uint32Array.from(order, ({ row }) => row),
    keys: passes.some(({ keys }) => keys !== undefined)
      ? order.map(({ pass, at, row }) => pass.keys === undefined ? pass.source.keys[row]! : pass.keys[at]!)
      : undefined,
    units: passes.some(({ units }) => units !== undefined)
      ? Float64Array.from(order, ({ pass, at }) => unitOf(pass, at))
      : undefined,
    time: first.time && {
      ...first.time,
      timestamps: column(({ time }) => time!.timestamps),
      clock: column(({ time }) => time!.clock),
    },
    dropped: passes.flatMap(({ dropped }) => dropped),
    folded: passes.flatMap(({ folded }) => folded),
    outgoing: passes.flatMap(({ outgoing }) => outgoing),
    changes: passes.flatMap(({ changes }) => changes),
  }
}

const isInOrder = (pass: Batch<unknown, unknown>, places: ReadonlyMap<number, number>): boolean => {
  let last = -1
  for (let at = 0; at < pass.values.length; at++) {
    const place = places.get(unitOf(pass, at)) ?? -1
    if (place < last && row(pass, at) === row(pass, at - 1)) return false
    last = place
  }
  return true
}
