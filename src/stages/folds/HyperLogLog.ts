/**
 * HyperLogLog (Flajolet, Fusy, Gandouet and Meunier 2007) with 64-bit hashes: how many different texts there are, in a
 * state of bounded size. A register holds the highest rank of the hashes that fall to it: how many zero bits stand before
 * the first one.
 */
import { Buffer } from "node:buffer"
import { Schema, SchemaTransformation } from "effect"
import { hashWith } from "../../state/KeyHash.ts"

/**
 * While few registers hold anything, those: `register * 64 + rank` for each, in order. Then all of them, a byte each. Which
 * of the two depends on the texts alone, so that equal sketches are equal values.
 */
export type Sketch = ReadonlyArray<number> | Uint8Array

export const empty: Sketch = []

/** The most registers that are kept as a list: with more, all of them take no more memory. */
const listed = (precision: number): number => 2 ** precision / 8

export const add = (sketch: Sketch, text: string, precision: number): Sketch => {
  // The keys of these hashes are a part of the format: states that are logged depend on them.
  const high = hashWith(text, 0x6d696c6c, 0x72616365)
  const register = high >>> 32 - precision
  const left = high << precision
  const rank = left !== 0 ? Math.clz32(left) + 1 : 33 - precision + Math.clz32(hashWith(text, 0x68797065, 0x72006c6f))
  if (sketch instanceof Uint8Array) {
    if (sketch[register]! >= rank) return sketch
    const raised = sketch.slice()
    raised[register] = rank
    return raised
  }
  const at = placeOf(sketch, register)
  const known = sketch[at]
  if (known === undefined || known >> 6 !== register) {
    return fitted([...sketch.slice(0, at), register << 6 | rank, ...sketch.slice(at)], precision)
  }
  return (known & 63) >= rank ? sketch : sketch.with(at, register << 6 | rank)
}

export const merge = (a: Sketch, b: Sketch, precision: number): Sketch => {
  if (a.length === 0) return b
  if (b.length === 0) return a
  const registers = dense(a, precision).slice()
  const others = dense(b, precision)
  let held = 0
  for (let i = 0; i < registers.length; i++) {
    if (others[i]! > registers[i]!) registers[i] = others[i]!
    if (registers[i] !== 0) held++
  }
  if (held > listed(precision)) return registers
  const list: Array<number> = []
  for (let i = 0; i < registers.length; i++) if (registers[i] !== 0) list.push(i << 6 | registers[i]!)
  return list
}

/** Ertl's improved raw estimator (2017, "New cardinality estimation algorithms for HyperLogLog sketches", algorithm 6). */
export const estimate = (sketch: Sketch, precision: number): number => {
  const m = 2 ** precision
  const q = 64 - precision
  const counts = new Float64Array(q + 2)
  if (sketch instanceof Uint8Array) { for (const rank of sketch) counts[rank]!++ }
  else {
    counts[0] = m - sketch.length
    for (const entry of sketch) counts[entry & 63]!++
  }
  let z = m * tau(1 - counts[q + 1]! / m)
  for (let rank = q; rank >= 1; rank--) z = 0.5 * (z + counts[rank]!)
  z += m * sigma(counts[0]! / m)
  return m * m / (2 * Math.LN2) / z
}

const sigma = (x: number): number => {
  if (x === 1) return Infinity
  let y = 1
  let z = x
  for (let before = NaN; z !== before;) {
    x *= x
    before = z
    z += x * y
    y *= 2
  }
  return z
}

const tau = (x: number): number => {
  if (x === 0 || x === 1) return 0
  let y = 1
  let z = 1 - x
  for (let before = NaN; z !== before;) {
    x = Math.sqrt(x)
    before = z
    y *= 0.5
    z -= (1 - x) ** 2 * y
  }
  return z / 3
}

/** Where a register stands in a list, or would. */
const placeOf = (list: ReadonlyArray<number>, register: number): number => {
  let low = 0
  let high = list.length
  while (low < high) {
    const middle = low + high >> 1
    if (list[middle]! >> 6 < register) low = middle + 1
    else high = middle
  }
  return low
}

const fitted = (list: ReadonlyArray<number>, precision: number): Sketch =>
  list.length > listed(precision) ? dense(list, precision) : list

const dense = (sketch: Sketch, precision: number): Uint8Array => {
  if (sketch instanceof Uint8Array) return sketch
  const registers = new Uint8Array(2 ** precision)
  for (const entry of sketch) registers[entry >> 6] = entry & 63
  return registers
}

/** A character for each rank. */
const digits = Buffer.from("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_")

const ranks = new Uint8Array(128).fill(255)
for (const [rank, digit] of digits.entries()) ranks[digit] = rank

/** A list as it is, all registers as a text with a character for each. */
export const codec = (precision: number): Schema.Codec<Sketch, unknown> => {
  const most = 65 - precision
  const isEntry = (entry: number) =>
    entry > 0 && entry < 2 ** precision * 64 && (entry & 63) > 0 && (entry & 63) <= most
  const List = Schema.Array(Schema.Int).pipe(Schema.check(
    Schema.makeFilter((list) =>
      list.every((entry, i) => isEntry(entry) && (i === 0 || entry >> 6 > list[i - 1]! >> 6)) ||
      "not a sketch of this precision"
    ),
  ))
  const Registers = Schema.String.pipe(
    Schema.decodeTo(
      Schema.Uint8Array,
      SchemaTransformation.transform({
        decode: (text): Uint8Array => Uint8Array.from(text, (digit) => ranks[digit.charCodeAt(0)] ?? 255),
        encode: (registers: Uint8Array) => Buffer.from(registers.map((rank) => digits[rank]!)).toString("latin1"),
      }),
    ),
    Schema.check(
      Schema.makeFilter((registers: Uint8Array) =>
        registers.length === 2 ** precision && registers.every((rank) => rank <= most) ||
        "not a sketch of this precision"
      ),
    ),
  )
  return Schema.Union([List, Registers])
}
