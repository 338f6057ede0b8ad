/** The settings of the processors, and how they run. */
import { Duration, Result } from "effect"
import { Degrade, type Runner, Settings } from "../index.ts"

export const enriching = {
  repeatWindow: Settings.duration("REPEAT_WINDOW", {
    doc: "How long an event id is remembered, from arrival: a message with the same id in that time is a repeat",
    fallback: "24 hours",
  }),
  repeatIds: Settings.integer("REPEAT_IDS", {
    doc: "The most event ids remembered per partition (about 50 bytes each); beyond it the window is shorter",
    fallback: "1000000",
    least: 1,
    most: 100_000_000,
  }),
  sessionGap: Settings.duration("SESSION_GAP", { doc: "The silence that ends a session", fallback: "30 minutes" }),
  sessionLongest: Settings.duration("SESSION_LONGEST", {
    doc: "The longest that a session lasts",
    fallback: "24 hours",
  }),
  sessionGrace: Settings.duration("SESSION_GRACE", {
    doc: "How long a session that is over is kept for clicks that come late",
    fallback: "1 hour",
  }),
  degradeDeviceBehind: Settings.duration("DEGRADE_DEVICE_BEHIND", {
    doc:
      "A partition of enrich whose clicks are older than this when they are read leaves their devices out, until they " +
      "are less than half as old; the clicks say so. Never unless given",
    fallback: undefined,
  }),
}

export const enrichOptions = (values: Settings.Values<typeof enriching>) => ({
  repeats: { window: values.repeatWindow, atMost: values.repeatIds },
  sessions: { gap: values.sessionGap, longest: values.sessionLongest, grace: values.sessionGrace },
  devices: values.degradeDeviceBehind &&
    Degrade.policy({ name: "device", behind: { above: values.degradeDeviceBehind } }),
})

export const counting = {
  grace: Settings.duration("COUNT_GRACE", {
    doc: "How long a minute stays open for clicks that come late",
    fallback: "10 minutes",
  }),
  wallClockAfter: Settings.checked(
    Settings.duration("COUNT_WALL_CLOCK_AFTER", {
      doc: "After this long without a click in a partition its minutes close by the wall clock; never unless given, " +
        "because clicks that come later with older times, as imports have them, are late then",
      fallback: undefined,
    }),
    (after) =>
      after === undefined || Duration.toMillis(after) >= 1_000
        ? Result.succeed(after)
        : Result.fail("must be a second at least"),
  ),
}

export const running = {
  reset: Settings.choice("RESET", {
    doc:
      "Where a program starts in partitions in which it has no position, or whose log begins behind it: at the first " +
      "record that is there, behind the last one, or not at all",
    fallback: "earliest",
    of: ["earliest", "latest", "fail"],
  }),
  commitInterval: Settings.duration("COMMIT_INTERVAL", {
    doc: "How long finished work waits for more before it is committed",
    fallback: "100 milliseconds",
  }),
  sessionTimeout: Settings.duration("SESSION_TIMEOUT", {
    doc:
      "After this long without a sign of life a process counts as dead, and others take its partitions over; brokers " +
      "refuse less than their group.min.session.timeout.ms, 6 seconds unless set",
    fallback: "6 seconds",
  }),
  instanceId: Settings.checked(
    Settings.string("INSTANCE_ID", {
      doc: "A name of this process that no other of the same program has: started again under it within " +
        "SESSION_TIMEOUT, it has its partitions back and no other process notices. Without it, a process that stops " +
        "hands its partitions over at once",
      fallback: undefined,
    }),
    (id) =>
      id === undefined || /^[\w.-]{1,200}$/.test(id)
        ? Result.succeed(id)
        : Result.fail("must be 1 to 200 letters, digits, dots, dashes and underscores"),
  ),
  shutdownTimeout: Settings.duration("SHUTDOWN_TIMEOUT", {
    doc: "How long a stop may take to finish and commit what is at hand",
    fallback: "20 seconds",
  }),
}

export const runOptions = (values: Settings.Values<typeof running>): Partial<Runner.Options> => ({
  reset: values.reset,
  commitInterval: values.commitInterval,
  instanceId: values.instanceId,
  sessionTimeout: values.sessionTimeout,
  heartbeatInterval: Duration.times(values.sessionTimeout, 1 / 12),
  shutdownTimeout: values.shutdownTimeout,
})
