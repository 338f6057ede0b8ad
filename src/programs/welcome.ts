/** The first thing that people see. */
import { styleText } from "node:util"

export interface About {
  readonly host: string
  readonly brokers: ReadonlyArray<string> | undefined
  readonly databaseUrl: unknown
  readonly writeKeys: ReadonlyArray<{ readonly key: string }>
}

/** Where the dashboard is, and how to send a click from a shell and from a page. */
export const welcome = (
  port: number,
  { host, brokers, databaseUrl, writeKeys }: About,
  isSampling: boolean,
): string => {
  const url = `http://${host === "0.0.0.0" || host === "::" ? "localhost" : host}:${port}`
  const key = writeKeys[0]!.key
  const title = (text: string) => styleText("bold", text)
  const soft = (text: string) => styleText("dim", text)
  const kafka = brokers === undefined ? "in memory" : brokers.join(", ")
  const postgres = databaseUrl === undefined ? "embedded, in memory" : "yours"
  return `
  ${styleText(["bold", "cyan"], "Millrace")} is running ${soft(`(Kafka: ${kafka}; Postgres: ${postgres})`)}

  ${title("Dashboard")}      ${styleText(["cyan", "underline"], url)}

  ${title("Send a click")}   ${
    styleText("green", `curl -u ${key}: ${url}/v1/track -d '{"anonymousId":"me","event":"Hello"}'`)
  }

  ${title("From a page")}    ${
    styleText(
      "green",
      `<script>
                   navigator.sendBeacon("${url}/v1/page?writeKey=${key}", JSON.stringify({
                     anonymousId: localStorage.visitor ??= crypto.randomUUID(),
                     context: { page: { url: location.href, title: document.title, referrer: document.referrer } },
                   }))
                 </script>`,
    )
  }

  ${
    soft(
      isSampling
        ? "10,000 real requests come by every 30 seconds as sample traffic; without it: npm start -- --no-sample"
        : "Waiting for clicks.",
    )
  }
  ${soft("Ctrl-C stops.")}
`
}
