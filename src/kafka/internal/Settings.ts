/** What a client of a cluster is told, checked all at once and said in plain words. */
import { Duration, Effect, Option, Redacted } from "effect"
import { isIP } from "node:net"
import type { ConnectionOptions as TlsOptions } from "node:tls"
import { KafkaError } from "../Cluster.ts"
import type { Sasl, Settings as ConnectionSettings } from "./Connections.ts"
import type { Address } from "./Failure.ts"

/** Encryption. Certificates and keys as PEM text; without `ca` the runtime's own authorities are trusted. */
export interface Tls {
  readonly ca?: string
  /** Our own certificate, where brokers ask for one; with its key. */
  readonly cert?: string
  readonly key?: Redacted.Redacted
  /** The name that the brokers' certificates are for, where it is not the name they are reached by. */
  readonly servername?: string
  /** `false` accepts any certificate, and with it anybody in between. */
  readonly rejectUnauthorized?: boolean
}

/** As it was given: nothing about it is certain. */
export interface Given {
  readonly brokers: ReadonlyArray<string>
  readonly clientId: string
  readonly mechanism: string | undefined
  readonly username: string | undefined
  readonly password: Redacted.Redacted | undefined
  readonly token: Redacted.Redacted | undefined
  readonly tls: Tls | undefined
  readonly requestTimeout: Duration.Input
}

export interface Settings extends ConnectionSettings {
  readonly bootstrap: ReadonlyArray<Address>
  /** In milliseconds. */
  readonly requestTimeout: number
}

/** The names under which settings were given. */
export type Names = Readonly<Record<keyof Given | "cert" | "key", string>>

/** Answers what can be used, or says everything that is wrong; `wrong` is what was found before. */
export const settle = (
  given: Given,
  names: Names,
  wrong: ReadonlyArray<string> = [],
): Effect.Effect<Settings, KafkaError> => {
  const problems = [...wrong]
  const bootstrap = given.brokers.flatMap((text) => {
    const address = addressOf(text.trim())
    if (address === undefined) problems.push(`${names.brokers}: "${text}" is not host:port, such as "localhost:9092"`)
    return address ?? []
  })
  if (given.brokers.length === 0) problems.push(`${names.brokers}: at least one broker is needed, as host:port`)
  if (given.clientId === "") problems.push(`${names.clientId}: must not be empty`)
  const requestTimeout = Option.getOrElse(
    Option.map(Duration.fromInput(given.requestTimeout), Duration.toMillis),
    () => 0,
  )
  if (!(requestTimeout >= 1 && requestTimeout <= longest)) {
    problems.push(`${names.requestTimeout}: must be a time from 1 millisecond to 10 days`)
  }
  const sasl = saslOf(given, names, problems)
  const { tls } = given
  if (tls !== undefined && (tls.cert === undefined) !== (tls.key === undefined)) {
    problems.push(`${names.cert} and ${names.key}: a certificate needs its key, and a key its certificate`)
  }
  if (problems.length > 0) {
    const message = `the settings of the Kafka client cannot be used:\n${
      problems.map((problem) => `  ${problem}`).join("\n")
    }`
    return Effect.fail(new KafkaError({ code: "CLIENT", operation: "Connect", message }))
  }
  return Effect.succeed({
    bootstrap,
    clientId: given.clientId,
    sasl,
    tls: tls === undefined ? undefined : tlsOptions(tls),
    requestTimeout,
    connectTimeout: Math.min(10_000, requestTimeout),
  })
}

const longest = Duration.toMillis("10 days")

/** `host:port`, with an IPv6 address in brackets. */
const addressOf = (text: string): Address | undefined => {
  const match = /^(?:\[([^\]]+)\]|([^\s:/[\]]+)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [, ipv6, name, digits] = match
  const host = ipv6 ?? name ?? ""
  const port = Number(digits)
  return port >= 1 && port <= 65_535 && (ipv6 === undefined || isIP(ipv6) === 6) ? { host, port } : undefined
}

const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] as const

const saslOf = (given: Given, names: Names, problems: Array<string>): Sasl | undefined => {
  const { username, password, token } = given
  if (given.mechanism === undefined) {
    const unused = [username, password, token].some((one) => one !== undefined)
    if (unused) problems.push(`${names.mechanism}: is needed with credentials; it is one of ${mechanisms.join(", ")}`)
    return undefined
  }
  const mechanism = mechanisms.find((one) => one === given.mechanism)
  if (mechanism === undefined) {
    problems.push(`${names.mechanism}: "${given.mechanism}" is none of ${mechanisms.join(", ")}`)
    return undefined
  }
  if (mechanism === "OAUTHBEARER") {
    if (token === undefined) problems.push(`${names.token}: is needed with ${mechanism}`)
    return token === undefined ? undefined : { mechanism, token }
  }
  if (username === undefined) problems.push(`${names.username}: is needed with ${mechanism}`)
  if (password === undefined) problems.push(`${names.password}: is needed with ${mechanism}`)
  return username === undefined || password === undefined ? undefined : { mechanism, username, password }
}

const tlsOptions = ({ ca, cert, key, servername, rejectUnauthorized }: Tls): TlsOptions => ({
  ...ca === undefined ? {} : { ca },
  ...cert === undefined ? {} : { cert },
  ...key === undefined ? {} : { key: Redacted.value(key) },
  ...servername === undefined ? {} : { servername },
  ...rejectUnauthorized === undefined ? {} : { rejectUnauthorized },
})
