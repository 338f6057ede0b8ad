/** Stages that look at one value after the other, and those that leave some out. */
import { drop, type Reference, refuse as refused, type Value } from "./Stream.ts"

export const map = (f: (value: Value) => Partial<Value>): Reference => (stream) => ({
  ...stream,
  values: stream.values.map((value) => ({ ...value, ...f(value) })),
})

export const filter = (is: (value: Value) => boolean, reason = "filtered"): Reference => (stream) => ({
  ...stream,
  values: stream.values.filter(is),
  dropped: [...stream.dropped, ...drop(reason, stream.values.filter((value) => !is(value)))],
})

export const flatMap = (f: (value: Value) => ReadonlyArray<Partial<Value>>): Reference => (stream) => ({
  ...stream,
  values: stream.values.flatMap((value) => f(value).map((one) => ({ ...value, ...one }))),
  dropped: [...stream.dropped, ...drop("empty", stream.values.filter((value) => f(value).length === 0))],
})

export const refuse = (reason: string, is: (value: Value) => boolean): Reference => (stream) =>
  refused(stream.values.filter(is).map((value) => [value, reason]))(stream)

export const send = (topic: string, text: (value: Value) => string): Reference => (stream) => ({
  ...stream,
  sent: [
    ...stream.sent,
    ...stream.values.map((value) => ({ ...value, topic, value: text(value) })),
  ].sort((a, b) => a.row - b.row),
})

/**
 * The first of each id within the window goes on. An id is remembered for `window` of arrival time, by the latest arrival so
 * far; of more than `atMost` ids the oldest are forgotten.
 */
export const deduplicate =
  ({ window, atMost }: { readonly window: number; readonly atMost: number }): Reference => (stream) => {
    const known: Array<readonly [id: string, arrived: number]> = []
    let now = -Infinity
    const isFirst = ({ id, row, at }: Value): boolean => {
      now = Math.max(now, stream.arrivals[row] ?? at)
      while (known.length > 0 && known[0]![1] < now - window) known.shift()
      if (known.some(([other]) => other === id)) return false
      known.push([id, now])
      if (known.length > atMost) known.shift()
      return true
    }
    const first = new Set(stream.values.filter(isFirst))
    return filter((value) => first.has(value), "repeat")(stream)
  }
