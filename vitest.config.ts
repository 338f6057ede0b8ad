import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/support/globalSetup.ts",
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // On two cores as well: many tests wait for servers and programs, while others compute.
    maxWorkers: Math.max(2, availableParallelism() - 1),
  },
})
