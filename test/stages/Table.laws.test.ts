/** Laws 0 to 5 of tables and of their joins. */
import { laws } from "../support/Laws.ts"
import { cases } from "../support/TableCases.ts"

laws(cases)
