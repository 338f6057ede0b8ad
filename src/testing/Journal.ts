/** What the programs of a run log: kept instead of printed. */
import { Cause, Context, Logger, LogLevel, References } from "effect"

/** A line that a program, or a service of the test, has logged. */
export interface Line {
  /** Milliseconds since 1970, by the test's clock. */
  readonly at: number
  readonly level: LogLevel.LogLevel
  /** Empty where it is a service of the test's layer. */
  readonly pipeline: string
  /** The program's number; 0 for a service. */
  readonly member: number
  readonly message: string
}

/** The least of what is kept. */
const kept = "Info"

export class Journal {
  readonly #lines: Array<Line> = []
  readonly #printing: ReadonlySet<Logger.Logger<unknown, unknown>>
  readonly #from: LogLevel.LogLevel

  /** Lines from a level on are handed to these loggers too. */
  constructor(printing: ReadonlySet<Logger.Logger<unknown, unknown>>, from: LogLevel.LogLevel) {
    this.#printing = printing
    this.#from = from
  }

  get lines(): ReadonlyArray<Line> {
    return [...this.#lines]
  }

  /** What makes a program log into this journal, for as long as it lives. */
  of(pipeline: string, member: number, lives: () => boolean): Context.Context<never> {
    const logger = Logger.make((entry) => {
      if (!lives()) return
      const { message, logLevel: level, cause, date } = entry
      this.#lines.push({ at: date.getTime(), level, pipeline, member, message: words(message, cause) })
      if (LogLevel.isGreaterThanOrEqualTo(level, this.#from)) { for (const other of this.#printing) other.log(entry) }
    })
    const least = LogLevel.isGreaterThanOrEqualTo(this.#from, kept) ? kept : this.#from
    return Context.make(Logger.CurrentLoggers, new Set([logger])).pipe(
      Context.add(References.MinimumLogLevel, least),
    ) as Context.Context<never>
  }
}

const words = (message: unknown, cause: Cause.Cause<unknown>): string => {
  const parts = (Array.isArray(message) ? message : [message]).map((part) =>
    part instanceof Error ? part.message : String(part)
  )
  return [...parts, ...Cause.prettyErrors(cause).map((error) => error.message)].join(": ")
}
