/** What must come of the commands in a topic, computed from its records alone, without any of the library or its rules. */

/** A record of `orders.commands`; those of one order come in order. */
export interface Raw {
  readonly value: string
}

interface Line {
  readonly quantity: number
  readonly price: number
}

interface Command {
  readonly type: string
  readonly orderId: string
  readonly commandId: string
  readonly userId: string
  readonly currency: string
  readonly amount: number
  readonly lines: ReadonlyArray<Line>
}

export interface Average {
  readonly currency: string
  readonly payments: number
  readonly total: number
  readonly average: number
}

export interface ByHand {
  readonly accepted: number
  readonly repeated: number
  /** By reason. */
  readonly rejected: Readonly<Record<string, number>>
  readonly damaged: number
  /** By order: version and type of each event. */
  readonly events: ReadonlyMap<string, ReadonlyArray<string>>
  readonly averages: ReadonlyMap<string, ReadonlyArray<Average>>
}

export const byHand = (records: ReadonlyArray<Raw>): ByHand => {
  const orders = new Map<string, { status: string; userId: string; currency: string; total: number }>()
  const answers = new Map<string, string>()
  const events = new Map<string, Array<string>>()
  const sums = new Map<string, Map<string, { payments: number; total: number }>>()
  const rejected: Record<string, number> = {}
  const counts = { accepted: 0, repeated: 0, damaged: 0 }

  /** The name of an event, nothing, or a reason with an exclamation mark. */
  const answer = ({ type, orderId, userId, currency, amount, lines }: Command): string => {
    const order = orders.get(orderId)
    const cost = () => lines.reduce((sum, line) => sum + line.price * line.quantity, 0)
    if (type === "PlaceOrder") {
      if (order) return "AlreadyPlaced!"
      if (cost() === 0) return "EmptyOrder!"
      orders.set(orderId, { status: "open", userId, currency, total: cost() })
      return "OrderPlaced"
    }
    if (!order) return "UnknownOrder!"
    if (order.status === "paid") return "AlreadyPaid!"
    if (type === "CancelOrder") {
      if (order.status === "cancelled") return ""
      order.status = "cancelled"
      return "OrderCancelled"
    }
    if (order.status === "cancelled") return "Cancelled!"
    if (type === "ChangeAddress") return "AddressChanged"
    if (type === "ChangeLines") {
      if (cost() === 0) return "EmptyOrder!"
      order.total = cost()
      return "LinesChanged"
    }
    if (currency !== order.currency) return "WrongCurrency!"
    if (amount !== order.total) return "WrongAmount!"
    order.status = "paid"
    const ofUser = sums.get(order.userId) ?? new Map<string, { payments: number; total: number }>()
    sums.set(order.userId, ofUser)
    const sum = ofUser.get(currency) ?? { payments: 0, total: 0 }
    ofUser.set(currency, { payments: sum.payments + 1, total: sum.total + amount })
    return "PaymentAuthorized"
  }

  for (const { value } of records) {
    let command: Command
    try {
      command = JSON.parse(value) as Command
    } catch {
      counts.damaged++
      continue
    }
    const id = `${command.orderId} ${command.commandId}`
    const before = answers.get(id)
    const text = before ?? answer(command)
    answers.set(id, text)
    if (text.endsWith("!")) rejected[text.slice(0, -1)] = (rejected[text.slice(0, -1)] ?? 0) + 1
    else if (before !== undefined) counts.repeated++
    else counts.accepted++
    if (before !== undefined || text === "" || text.endsWith("!")) continue
    const own = events.get(command.orderId) ?? []
    events.set(command.orderId, own)
    own.push(`${own.length + 1} ${text}`)
  }
  const averages = new Map(Array.from(sums, ([user, currencies]) => [
    user,
    Array.from(currencies, ([currency, { payments, total }]): Average => (
      { currency, payments, total, average: Number((2n * BigInt(total) + BigInt(payments)) / (2n * BigInt(payments))) }
    )).sort((a, b) => a.currency < b.currency ? -1 : 1),
  ]))
  return { ...counts, rejected, events, averages }
}
