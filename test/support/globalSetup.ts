/** Before all tests: a Postgres, and where a real broker is or will be when a test asks for it. After them: they stop. */
import { rm } from "node:fs/promises"
import type { TestProject } from "vitest/node"
import type {} from "./Broker.ts"
import type {} from "./Database.ts"
import { kafka, type Local, place, whyNoJava } from "./BrokerProcess.ts"
import * as DatabaseProcess from "./DatabaseProcess.ts"
import { whyNoRedis } from "./RedisProcess.ts"

let local: Local | undefined
let database: DatabaseProcess.Running | undefined

export const setup = async ({ provide }: TestProject): Promise<void> => {
  const given = process.env["KAFKA_BROKERS"]?.split(",").map((broker) => broker.trim()).filter((broker) =>
    broker !== ""
  )
  const missing = await whyNoJava()
  if (missing !== undefined && process.env["CI"] === "true") throw new Error(missing)
  if (missing !== undefined) console.warn(`\n  BROKER TESTS ARE LEFT OUT: ${missing}.\n`)
  const noPostgres = DatabaseProcess.whyNoPostgres()
  if (noPostgres !== undefined && process.env["CI"] === "true") throw new Error(noPostgres)
  if (noPostgres !== undefined) console.warn(`\n  DATABASE TESTS ARE LEFT OUT: ${noPostgres}.\n`)
  else database = await DatabaseProcess.start()
  provide("database", { url: database?.url, missing: noPostgres })
  const noRedis = whyNoRedis()
  if (noRedis !== undefined && process.env["CI"] === "true") throw new Error(noRedis)
  if (noRedis !== undefined) console.warn(`\n  REDIS TESTS ARE LEFT OUT: ${noRedis}.\n`)
  local = await place()
  provide("kafka", { brokers: given === undefined || given.length === 0 ? undefined : given, local, missing })
}

export const teardown = async (): Promise<void> => {
  await database?.stop()
  if (local === undefined) return
  await kafka("stop", local)
  await rm(local.dir, { recursive: true, force: true })
}
