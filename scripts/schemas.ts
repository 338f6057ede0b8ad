/** Writes schemas/json: the JSON Schema of every topic's values, made from the contracts. `npm run schemas` */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { fileURLToPath, pathToFileURL } from "node:url"
import { Duration, Schema } from "effect"
import { topics } from "../schemas/index.ts"
import { orderTopics } from "../schemas/orders/index.ts"
import type { Topic } from "../src/index.ts"

export const directory = fileURLToPath(new URL("../schemas/json/", import.meta.url))

const contracts = (): ReadonlyArray<Topic.Any> => [...Object.values(topics()), ...Object.values(orderTopics())]

const isBytes = (topic: Topic.Any) => topic.schema === topics().dlt.schema

/** File names and what must stand in them. Topics of bytes have no schema. */
export const files = (): ReadonlyMap<string, string> =>
  new Map(
    contracts().filter((topic) => !isBytes(topic)).map((topic) => {
      const { schema, definitions } = Schema.toJsonSchemaDocument(topic.schema)
      const document = {
        $schema: "https://json-schema.org/draft/2020-12/schema",
        $id: `${topic.name}.json`,
        title: topic.name,
        description: topic.description,
        ...schema,
        ...Object.keys(definitions).length === 0 ? {} : { $defs: definitions },
        "x-kafka": {
          owner: topic.owner,
          key: topic.key,
          partitions: topic.partitions,
          cleanup: topic.cleanup,
          retention: topic.retention === undefined ? null : Duration.format(topic.retention),
        },
      }
      return [`${topic.name}.json`, `${JSON.stringify(document, undefined, 2)}\n`]
    }),
  )

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  mkdirSync(directory, { recursive: true })
  for (const name of readdirSync(directory)) rmSync(`${directory}${name}`)
  for (const [name, text] of files()) writeFileSync(`${directory}${name}`, text)
}
