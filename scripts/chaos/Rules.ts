/** What the network does to connections. */

/** A connection is between a program and a server: a broker by its number, or the database. */
export interface Rule {
  readonly number: number
  /** Whose connections; everybody's unless given. */
  readonly program?: string | undefined
  /** To which server; to all unless given. */
  readonly server?: string | undefined
  readonly effect: Effect
}

export type Effect =
  /** Connections break, and no new one comes about. */
  | { readonly type: "refuse" }
  /** Nothing passes, either way, and nobody is told. */
  | { readonly type: "silence" }
  /** What is asked arrives, and no answer comes back; when that is over the connections break. */
  | { readonly type: "deaf" }
  /** Everything takes longer, in milliseconds each way, and passes at so many bytes per second. */
  | { readonly type: "slow"; readonly latency: number; readonly rate: number }

/** Where the proxy listens, and for which server. The program is known from what it sends unless given. */
export interface Listener {
  readonly port: number
  readonly target: number
  readonly server: string
  readonly program?: string | undefined
}

export type Command =
  | { readonly type: "listen"; readonly listeners: ReadonlyArray<Listener> }
  | { readonly type: "add"; readonly rule: Rule }
  | { readonly type: "remove"; readonly number: number }

export const applies = (rule: Rule, program: string, server: string): boolean =>
  (rule.program === undefined || rule.program === program) && (rule.server === undefined || rule.server === server)
