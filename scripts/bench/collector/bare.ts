/** A node:http server that parses the JSON of a batch and produces its messages: `bare.ts BROKERS PORT` */
import { createServer } from "node:http"
import { Effect, Layer, ManagedRuntime } from "effect"
import { KafkaClient, Producer } from "../../../src/index.ts"

const [brokers = "", port = ""] = process.argv.slice(2)
const runtime = ManagedRuntime.make(
  Producer.layer().pipe(Layer.provide(KafkaClient.layer({ brokers: brokers.split(",") }))),
)
const producer = await runtime.runPromise(Effect.map(Producer.Producer, (producer) => producer))

createServer((request, response) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk) => chunks.push(chunk))
  request.on("end", () => {
    const { batch } = JSON.parse(Buffer.concat(chunks).toString()) as { batch: Array<{ anonymousId: string }> }
    const records = batch.map((message) => ({
      topic: "user.clicks.raw",
      key: Buffer.from(message.anonymousId),
      value: Buffer.from(JSON.stringify(message)),
    }))
    runtime.runPromise(producer.send(records)).then(
      () => response.end("{}"),
      () => response.writeHead(503).end(),
    )
  })
}).listen(Number(port), "127.0.0.1")
