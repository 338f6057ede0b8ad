/** Sends batches over keep-alive connections for some seconds, and prints how many events were answered with 200. */
import { Agent, request } from "node:http"

const [port = "", seconds = "", size = ""] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 32 })
const ending = Date.now() + Number(seconds) * 1000
let events = 0
let refused = 0
let number = 0

const body = () =>
  JSON.stringify({
    sentAt: new Date().toISOString(),
    batch: Array.from({ length: Number(size) }, () => ({
      type: "page",
      messageId: `m-${process.pid}-${number++}`,
      anonymousId: `visitor-${number % 5_000}`,
      timestamp: new Date().toISOString(),
      context: {
        page: {
          url: `https://shop.example/articles/${number % 300}`,
          title: "An article",
          referrer: "https://search.example/",
        },
        userAgent:
          "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
      },
    })),
  })

const one = (): Promise<void> =>
  new Promise((resolve) => {
    const sent = request({
      host: "127.0.0.1",
      port: Number(port),
      path: "/v1/batch",
      method: "POST",
      agent,
      headers: { "x-write-key": "demo" },
    }, (answer) => {
      answer.resume()
      answer.on("end", () => {
        if (answer.statusCode === 200) events += Number(size)
        else refused++
        resolve()
      })
    })
    sent.on("error", () => {
      refused++
      resolve()
    })
    sent.end(body())
  })

const sender = async () => {
  while (Date.now() < ending) await one()
}
await Promise.all(Array.from({ length: 32 }, sender))
console.log(JSON.stringify({ perSecond: events / Number(seconds), refused }))
process.exit(0)
