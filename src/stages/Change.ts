/** What happens to the rows of a table. */

/** What became of the row of a record's key: its value from now on, `undefined` where it was deleted. */
export interface Change<out A> {
  readonly row: A | undefined
}

export const upsert = <A>(row: A): Change<A> => ({ row })

export const deletion: Change<never> = { row: undefined }

/** The header that holds a tombstone's event time, which has no value to hold it: milliseconds since 1970 as text. */
export const timeHeader = "millrace-time"
