/** Links between the pages of the documentation, and what they lead to. */
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"
import { root } from "./Examples.ts"

/** README.md and all pages below docs, by their path. */
export const pages = (): ReadonlyMap<string, string> =>
  new Map(
    ["README.md", ...globSync("docs/**/*.md", { cwd: root }).toSorted()]
      .map((page) => [page, readFileSync(join(root, page), "utf8")]),
  )

/** A page without its fenced blocks. */
export const prose = (page: string): string => page.replaceAll(/^(\s*)```.*\n(?:.*\n)*?\1```$/gm, "")

/** The names under which GitHub shows a page's headings. */
export const anchors = (page: string): ReadonlySet<string> => {
  const found = new Map<string, number>()
  for (const [, heading] of prose(page).matchAll(/^#{1,6} (.+)$/gm)) {
    const name = heading!.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(/\s/g, "-")
    const before = found.get(name) ?? 0
    found.set(name, before + 1)
    if (before > 0) found.set(`${name}-${before}`, 1)
  }
  return new Set(found.keys())
}

/** Relative links that lead nowhere. */
export const broken = (pages: ReadonlyMap<string, string>): ReadonlyArray<string> =>
  [...pages].flatMap(([page, text]) =>
    [...prose(text).matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link]) => {
      if (/^[a-z]+:/.test(link!)) return []
      const [path, anchor] = link!.split("#")
      const target = path === "" ? page : normalize(join(dirname(page), path!))
      if (!existsSync(join(root, target)) && !pages.has(target)) return [`${page}: ${link}`]
      return anchor === undefined || anchors(pages.get(target) ?? "").has(anchor) ? [] : [`${page}: ${link}`]
    })
  )
