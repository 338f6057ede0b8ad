/** What programs tell of themselves: log lines, and the figures that are sent somewhere. */
import { Layer, Logger, Result } from "effect"
import { FetchHttpClient } from "effect/http"
import { OtlpMetrics, OtlpSerialization } from "effect/observability"
import { Settings } from "../index.ts"

export const settings = {
  logFormat: Settings.choice("LOG_FORMAT", {
    doc: "Log lines for people or for machines; without it, for people on a terminal",
    fallback: undefined,
    of: ["pretty", "json"],
  }),
  logLevel: Settings.choice("LOG_LEVEL", {
    doc: "The least important log lines that are written",
    fallback: "Info",
    of: ["Debug", "Info", "Warn", "Error"],
  }),
  otlp: Settings.checked(
    Settings.string("OTEL_EXPORTER_OTLP_ENDPOINT", {
      doc: "An OpenTelemetry collector that is sent the figures of /metrics every 10 seconds: http://localhost:4318",
      fallback: undefined,
    }),
    (url) =>
      url === undefined || /^https?:\/\/\S+$/.test(url) && URL.canParse(url)
        ? Result.succeed(url?.replace(/\/+$/, ""))
        : Result.fail("must be an address such as http://localhost:4318"),
  ),
}

export const layer = (
  program: { readonly name: string; readonly version: string },
  { logFormat, otlp }: Settings.Values<typeof settings>,
): Layer.Layer<never> => Layer.merge(logger(logFormat), exporter(otlp, program))

const logger = (format: "pretty" | "json" | undefined) =>
  Logger.layer([
    (format ?? (process.stderr.isTTY ? "pretty" : "json")) === "pretty" ? Logger.consolePretty() : Logger.consoleJson,
  ])

const exporter = (
  otlp: string | undefined,
  { name, version }: { readonly name: string; readonly version: string },
) =>
  otlp === undefined ? Layer.empty : OtlpMetrics.layer({
    url: `${otlp}/v1/metrics`,
    resource: { serviceName: `millrace-${name}`, serviceVersion: version },
    exportInterval: "10 seconds",
  }).pipe(
    Layer.provide([FetchHttpClient.layer, OtlpSerialization.layerJson]),
  )
