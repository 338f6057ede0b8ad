/** What a user agent says of the machine behind it. */
import Bowser from "bowser"
import { isbot } from "isbot"

export interface Device {
  readonly browser: string | null
  readonly os: string | null
  /** desktop, mobile, tablet, tv or bot */
  readonly device: string | null
  readonly bot: boolean
}

const unknown: Device = { browser: null, os: null, device: null, bot: false }

/** Parsing takes longer than everything else about a click, and the same user agents come again and again. */
const cached = new Map<string, Device>()
const mostCached = 10_000
const longest = 1024

/** Names without versions. Remembers the 10,000 user agents that were seen last. */
export const of = (userAgent: string | null): Device => {
  if (userAgent === null || userAgent === "") return unknown
  const text = userAgent.slice(0, longest)
  const known = cached.get(text)
  if (known !== undefined) return known
  const device = parse(text)
  if (cached.size >= mostCached) {
    for (const oldest of cached.keys()) {
      cached.delete(oldest)
      break
    }
  }
  cached.set(text, device)
  return device
}

const parse = (text: string): Device => {
  const bot = isbot(text)
  try {
    const { browser, os, platform } = Bowser.parse(text)
    return {
      browser: browser.name || null,
      os: os.name || null,
      device: bot ? "bot" : platform.type || null,
      bot,
    }
  } catch {
    return { ...unknown, bot, device: bot ? "bot" : null }
  }
}
