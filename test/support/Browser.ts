/** Chromium for tests of pages. */
import { describe } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { existsSync } from "node:fs"
import { type Browser, chromium } from "playwright-core"

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium"

/** A suite that needs Chromium: left out loudly where there is none, a failure with CI=true. */
export const describeWithBrowser = (name: string, run: () => void) => {
  if (existsSync(executablePath)) return describe(name, run)
  const missing = `${executablePath} is not here (CHROMIUM names another one)`
  if (process.env["CI"] === "true") throw new Error(missing)
  console.warn(`\n  BROWSER TESTS ARE LEFT OUT: ${missing}.\n`)
  return describe.skip(name, run)
}

export const launch: Effect.Effect<Browser, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(() =>
    chromium.launch({
      executablePath,
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    })
  ),
  (browser) => Effect.promise(() => browser.close()),
)
