/** Which pages of which sites may call the collector from a browser, and what they may see of its answers. */

/** What a cross-origin request is answered with, by the Fetch standard's CORS protocol. */
export interface Cors {
  /** The headers of an answer to a page of `origin`. */
  headers(origin: string | undefined): Readonly<Record<string, string>>
  /** The headers of the answer to a preflight from a page of `origin`. */
  preflight(origin: string | undefined): Readonly<Record<string, string>>
}

/**
 * Allows the origins listed: `https://example.com`, `https://*.example.com` for its subdomains at any depth, or `*` for all.
 * The answers never allow credentials, for the collector sets and reads no cookies.
 *
 * Header names are listed one by one, because a wildcard does not cover `Authorization`.
 */
export const make = (origins: ReadonlyArray<string>): Cors => {
  const allows = matcher(origins)
  const headers = (origin: string | undefined): Readonly<Record<string, string>> =>
    origin === undefined || !allows(origin) ? refused : {
      vary: "Origin",
      "access-control-allow-origin": origin,
      "access-control-expose-headers": "Retry-After",
    }
  return {
    headers,
    preflight: (origin) =>
      origin === undefined || !allows(origin) ? refused : {
        ...headers(origin),
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "Authorization, Content-Type, X-Retry-Count, X-Write-Key",
        "access-control-max-age": "600",
      },
  }
}

const refused = { vary: "Origin" }

const matcher = (origins: ReadonlyArray<string>): (origin: string) => boolean => {
  if (origins.includes("*")) return () => true
  const exact = new Set(origins.map((origin) => origin.toLowerCase()))
  const suffixes = [...exact].flatMap((origin) => {
    const [scheme, host] = origin.split("://*.")
    return host === undefined ? [] : [{ scheme: `${scheme}://`, suffix: `.${host}` }]
  })
  return (given) => {
    const origin = given.toLowerCase()
    return exact.has(origin) ||
      suffixes.some(({ scheme, suffix }) =>
        origin.startsWith(scheme) && origin.endsWith(suffix) && origin.length > scheme.length + suffix.length
      )
  }
}

/** Whether a text can be listed: an origin without a path, or a pattern of one. */
export const isOrigin = (text: string): boolean =>
  text === "*" || /^https?:\/\/(\*\.)?[a-z0-9.-]+(:\d{1,5})?$/i.test(text) ||
  /^https?:\/\/\[[0-9a-f:.]+\](:\d{1,5})?$/i.test(text)
