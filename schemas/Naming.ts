/** What differs between one set of the clickstream's topics and another. */

export interface Naming {
  /** Stands in front of every topic's name, with a dot: an import that must not touch the live topics has its own. */
  readonly prefix: string
  /**
   * What keeps events in order: `user` by user id, or anonymous id before a login; `visitor` by anonymous id, or user id
   * where there is none, so that a login does not cut a visit in two.
   */
  readonly keyBy: "user" | "visitor"
}

export const named = ({ prefix }: Pick<Naming, "prefix">, name: string): string =>
  prefix === "" ? name : `${prefix}.${name}`

export const owner = "clickstream"
