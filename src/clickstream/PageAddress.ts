/** Addresses of pages as trackers report them: whole or only a path, with what must not be kept taken out. */

export interface PageAddress {
  readonly url: string | null
  readonly path: string | null
  readonly campaign: Campaign | null
}

export interface Campaign {
  readonly source: string | null
  readonly medium: string | null
  readonly name: string | null
  readonly term: string | null
  readonly content: string | null
}

const longest = 2048

/**
 * Takes an address apart: one with http(s) and a host, or a path that begins with `/`, which is kept as it is. Credentials
 * and the fragment are removed, values in the query that look like an e-mail address are masked, and everything is cut at
 * 2,048 characters. Any other text counts as no address.
 */
export const parse = (address: string | null): PageAddress => {
  const found = address?.startsWith("/") ? relative(address) : absolute(address)
  if (found === undefined) return none
  const { origin, path, query } = found
  const search = new URLSearchParams(query)
  return {
    url: `${origin}${path}${query.includes("@") || /%40/i.test(query) ? masked(search) : query}`.slice(0, longest),
    path: path.slice(0, longest),
    campaign: query.includes("utm_") ? campaignIn(search) : null,
  }
}

/** Whether it is an address of another kind than the web's: of a file, an empty tab or an app. */
export const isElsewhere = (address: string): boolean => {
  const url = URL.parse(address.slice(0, 4 * longest))
  return url !== null && !/^https?:$/.test(url.protocol)
}

/** The host of an address, in lower case; null where it has none. */
export const hostOf = (address: string | null): string | null => absolute(address)?.host ?? null

export const none: PageAddress = { url: null, path: null, campaign: null }

const relative = (address: string) => {
  const [whole = ""] = address.slice(0, 4 * longest).split("#", 1)
  const query = whole.indexOf("?")
  return query === -1
    ? { origin: "", path: whole, query: "" }
    : { origin: "", path: whole.slice(0, query), query: whole.slice(query) }
}

const absolute = (address: string | null) => {
  if (address === null || !/^https?:/i.test(address)) return undefined
  try {
    const { origin, pathname: path, search: query, hostname: host } = new URL(address.slice(0, 4 * longest))
    return { origin, path, query, host }
  } catch {
    return undefined
  }
}

const masked = (search: URLSearchParams): string => {
  const copy = new URLSearchParams(search)
  for (const [name, value] of search) {
    if (/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(value)) copy.set(name, "***")
  }
  return `?${copy}`
}

const campaignIn = (query: URLSearchParams): Campaign | null => {
  const one = (name: string) => {
    const value = query.get(`utm_${name}`)
    return value === null || value === "" ? null : value.slice(0, 256)
  }
  const campaign: Campaign = {
    source: one("source"),
    medium: one("medium"),
    name: one("campaign"),
    term: one("term"),
    content: one("content"),
  }
  return Object.values(campaign).every((value) => value === null) ? null : campaign
}
