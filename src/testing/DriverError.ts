/** What a test on the driver can fail with. */
import { Schema } from "effect"

export class DriverError extends Schema.TaggedError<DriverError>()("DriverError", {
  reason: Schema.Literals([
    "Invalid", // a value that its topic's contract refuses, or a record that the brokers do
    "Undecodable", // a topic, dead letter or store holds what its contract, or codec, cannot read
    "Unknown", // a topic, pipeline, store or partition that this run does not have
    "Unsettled", // what was fed is not through within the bound
    "Ended", // nothing works on what was fed: a program or a task has ended
    "Differs", // with a fault, or from a seed, the outcome is another one
  ]),
  message: Schema.String,
  topic: Schema.optionalKey(Schema.String),
  partition: Schema.optionalKey(Schema.Int),
  offset: Schema.optionalKey(Schema.Int),
  /** The path of the field that is wrong. */
  field: Schema.optionalKey(Schema.String),
  cause: Schema.optionalKey(Schema.Defect()),
}) {}
