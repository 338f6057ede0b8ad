/** The names of the pipelines of orders: their consumer groups, and the beginnings of their changelogs' names. */
import { named, type Naming } from "../../schemas/index.ts"

export const pipelines = (naming: Pick<Naming, "prefix">) => ({
  orders: named(naming, "orders"),
  averages: named(naming, "orders-averages"),
})
