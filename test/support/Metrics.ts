/** The figures of a program that runs as a process of its own. */
import { Effect } from "effect"

/** Waits until a program at this port has committed so many records of a topic. */
export const untilRead = (port: number, topic: string, count: number) =>
  Effect.promise(() => fetch(`http://127.0.0.1:${port}/metrics`).then((answer) => answer.text(), () => "")).pipe(
    Effect.map((text) => {
      const lines = text.split("\n").filter((line) =>
        line.startsWith("millrace_records_read_total{") && line.includes(`topic="${topic}"`)
      )
      return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0)
    }),
    Effect.delay("100 millis"),
    Effect.repeat({ until: (read) => read >= count }),
  )
