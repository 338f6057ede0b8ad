/** What the client and the brokers say about failures, as `KafkaError`s. No secret can get into them. */
import {
  AuthenticationError,
  MultipleErrors,
  NetworkError,
  ProtocolError,
  protocolErrorsCodesById,
  UserError,
} from "@platformatic/kafka"
import { type ErrorCode, KafkaError } from "../Cluster.ts"

export interface Address {
  readonly host: string
  readonly port: number
}

export const at = ({ host, port }: Address): string => `broker ${host}:${port}`

/** A protocol error's name; nothing for success. */
export const nameOf = (code: number): ErrorCode | null =>
  code === 0
    ? null
    : (protocolErrorsCodesById as Readonly<Record<number, string | undefined>>)[code] ?? `UNKNOWN_ERROR_${code}`

/** The request was refused by a broker. `subject` says what it was about: a group, a topic and its partition. */
export const refused = (operation: string, subject: string, code: ErrorCode, words?: string | null): KafkaError =>
  new KafkaError({
    code,
    operation,
    message: `${subject}: refused with ${code}${
      words === undefined || words === null || words === "" ? "" : ` (${words})`
    }`,
  })

/** No answer in time: the request may have been carried out all the same. */
export const unanswered = (operation: string, address: Address, timeout: number): KafkaError =>
  new KafkaError({
    code: "TIMEOUT",
    operation,
    message: `${at(address)} did not answer within ${timeout} ms; whether the request was carried out is not known`,
  })

/** The same, where the answer is waited for no longer because another broker has taken over. */
export const replaced = (operation: string, address: Address): KafkaError =>
  new KafkaError({
    code: "TIMEOUT",
    operation,
    message: `${
      at(address)
    } did not answer and is the coordinator no longer; whether the request was carried out is not known`,
  })

/** Why there is no connection. */
export const unconnected = (address: Address, error: Error): KafkaError => {
  const causes = chain(error)
  const said = causes.map(wordsOf).filter((words) => words !== "")
  if (causes.some(isAuthentication)) {
    return new KafkaError({
      code: "AUTHENTICATION",
      operation: "Connect",
      message: `${at(address)} refused the credentials (${
        said.at(-1)
      }); check the SASL mechanism, user name and password`,
    })
  }
  const tls = causes.find(isTls)
  return new KafkaError(
    tls === undefined
      ? {
        code: "NETWORK",
        operation: "Connect",
        message: `${at(address)} cannot be reached (${said.at(-1)}); check the address and that the broker runs`,
      }
      : {
        code: "AUTHENTICATION",
        operation: "Connect",
        message: `${at(address)}: no TLS connection (${said.at(-1)}); check the TLS settings and the certificates`,
      },
  )
}

/** A request that was sent, or could not be, and has no answer. */
export const broken = (operation: string, address: Address, error: Error): KafkaError => {
  if (error instanceof UserError && error.message.includes("TLS")) return unconnected(address, error)
  return error instanceof NetworkError
    ? new KafkaError({
      code: "NETWORK",
      operation,
      message: `the connection to ${at(address)} broke; whether the request was carried out is not known`,
    })
    : new KafkaError({
      code: "CLIENT",
      operation,
      message: `the request to ${at(address)} could not be written, or its answer not be read (${error.message})`,
      cause: error,
    })
}

/** An error, its causes, and theirs. */
const chain = (error: unknown): ReadonlyArray<Error> => {
  if (!(error instanceof Error)) return []
  const below = error instanceof AggregateError ? error.errors.flatMap(chain) : []
  return [error, ...below, ...chain(error.cause)]
}

const wordsOf = (error: Error): string => {
  if (error instanceof ProtocolError) {
    const said: unknown = Reflect.get(error, "serverErrorMessage")
    return typeof said === "string" ? said : String(Reflect.get(error, "apiId"))
  }
  return error instanceof MultipleErrors ? "" : error.message
}

const isAuthentication = (error: Error): boolean => error instanceof AuthenticationError

/** Node's codes of certificates and handshakes that failed. */
const isTls = (error: Error): boolean => {
  const code: unknown = Reflect.get(error, "code")
  return error instanceof UserError ||
    typeof code === "string" && /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|HOSTNAME_MISMATCH)/.test(code)
}
