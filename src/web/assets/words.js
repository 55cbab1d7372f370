// The words for what the server says in terms.

/** Every status: how it is called, and what it means (product.md, "The life of a delegation"). */
export const STATUSES = {
  pending: { name: "Pending", means: "accepted, not yet sent" },
  queued: { name: "Queued", means: "waits for the target" },
  dispatched: { name: "Dispatched", means: "sent; the target has not spoken yet" },
  received: { name: "Received", means: "the target has it" },
  in_progress: { name: "In progress", means: "the target reports work" },
  input_required: { name: "Input required", means: "the target asked a question" },
  stuck: { name: "Stuck", means: "silent for too long; not ended" },
  completed: { name: "Completed", means: "ended with an answer" },
  failed: { name: "Failed", means: "ended with an error" },
  cancelled: { name: "Cancelled", means: "withdrawn by the caller" },
};

export const LIVE = ["pending", "queued", "dispatched", "received", "in_progress", "input_required", "stuck"];
export const ENDED = ["completed", "failed", "cancelled"];
/** The events that end a delegation, and how. */
export const ENDINGS = { DELEGATION_COMPLETE: "completed", DELEGATION_FAILED: "failed", DELEGATION_CANCELLED: "cancelled" };
export const isEnded = (status) => ENDED.includes(status);

/** What a queued delegation waits for, what Baton does by itself in a while, and what else brings it on. */
export const WAITS = {
  busy: ["The target says that it is busy", "asked again"],
  capacity: ["The target works on as many tasks as it takes at once", "looked at again", "goes on when it ends one"],
  unreachable: ["The target cannot be reached", "tried again"],
  breaker: ["Too many tries failed, so the target is only probed", "probed"],
  redelivery: ["The answer was lost on its way; the target drops repetitions", "the same message is sent again"],
  address: ["The target has not said where it listens", "looked at again", "goes on when it registers"],
  offline: ["The target is asleep or offline by its own word", "looked at again", "goes on with its next heartbeat"],
  target_queue: ["The target has it in a queue of its own", "checked on", "goes on when the target reports"],
  poll: ["It lies in the target's inbox, and was not fetched yet", "looked at again", "goes on when the target reads its inbox"],
};

/** What comes next of one that is queued: nothing but its end, where it is due no sooner. */
function queued(line, ending) {
  const [why, tried, goesOn] = WAITS[line.waiting_for] ?? [`Waits for ${line.waiting_for ?? "the target"}`, "looked at again"];
  const failures = line.failures ? ` (${line.failures} ${line.failures === 1 ? "try" : "tries"} failed)` : "";
  const isTried = line.next_attempt_at && new Date(line.next_attempt_at) < new Date(line.deadline);
  const [does, at] = isTried ? [tried, line.next_attempt_at] : [ending.next, ending.at];
  return { why: why + failures, next: goesOn ? `${goesOn}; ${does}` : does, at };
}

/**
 * Why a delegation does not move, and what comes next: `{ why, next, at }`, where `at` is the instant of `next` if it has one.
 * `line` is an entry of `GET /canvas/delegations`, or a whole delegation.
 */
export function standing(line) {
  const deadline = { next: "ends without an answer", at: line.deadline };
  switch (line.status) {
    case "pending":
      return { why: "Accepted and durable; about to be sent", ...deadline };
    case "queued":
      return queued(line, deadline);
    case "dispatched":
      return { why: "Sent; waits for the target's first word", ...deadline };
    case "received":
      return { why: "The target has it, and has not reported work yet", ...deadline };
    case "in_progress":
      return { why: progress(line.progress) ?? "The target works on it", ...deadline };
    case "input_required":
      return { why: line.question ? `The target asks: ${line.question}` : "The target asks a question", next: "goes on when it is answered; ends", at: line.deadline };
    case "stuck":
      return { why: "Nothing was heard for too long; anything the target says brings it back", ...deadline };
    case "failed":
      return { why: line.error || FAILURES[line.error_class] || "It failed" };
    case "cancelled":
      return { why: line.error ? `Withdrawn: ${line.error}` : "Withdrawn" };
    default:
      return { why: line.result_preview ?? "" };
  }
}

function progress(told) {
  if (!told) return null;
  const percent = told.percent === null || told.percent === undefined ? "" : `${told.percent}%`;
  return [told.message, percent].filter(Boolean).join(" · ") || null;
}

/** Classes of failures, for people. */
export const FAILURES = {
  reported: "Reported as failed",
  refused: "The agent answered with an error",
  rejected: "The agent rejected the task",
  cancelled_by_target: "The agent cancelled its task",
  outcome_unknown: "The request may have arrived, and no answer came",
  truncated: "The answer broke off",
  empty_response: "The answer was empty",
  malformed_response: "The answer was not understood",
  foreign_response: "The answer was for another request",
  reply_too_large: "The answer was too large",
  blocked_address: "The target's address may not be called",
  target_removed: "The target was removed",
  retries_exhausted: "The target could not be reached for too long",
  dropped: "Dropped from the queue by an operator",
  deadline_exceeded: "The deadline passed",
  internal: "An internal fault in Baton",
};

const PRESENCE = {
  online: "online", degraded: "degraded", offline: "offline", paused: "paused", hibernated: "asleep",
  provisioning: "being set up", awaiting_agent: "waiting for its agent", failed: "failed", removed: "removed",
};
export const presence = (status) => PRESENCE[status] ?? status;

/** Whether an agent of this status takes work. */
export const isPresent = (status) => status === "online" || status === "degraded";

/** The tail of an id tells more than its head, which is a time. */
export const short = (id) => (id ? `…${id.slice(-6)}` : "—");

/** The beginning of a text, without half of a character at its end. */
export const cut = (text, limit) => text.slice(0, limit).replace(/[\ud800-\udbff]$/, "");

const UNITS = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];

/** A span of milliseconds in its two largest units. */
export function span(milliseconds) {
  let seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (milliseconds > 0 && milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (seconds < 60) return `${seconds} s`;
  const found = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(seconds / size);
    if (count === 0 && found.length === 0) continue;
    seconds -= count * size;
    if (count) found.push(`${count} ${unit}`);
    if (found.length === 2 || (found.length === 1 && count === 0)) break;
  }
  return found.join(" ");
}

const sameDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const otherDay = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** An instant as a clock in the reader's zone shows it. */
export function clock(instant) {
  const date = new Date(instant);
  return (new Date(now()).toDateString() === date.toDateString() ? sameDay : otherDay).format(date);
}

/** The exact instant: in the reader's zone, and as the server wrote it. */
export const exact = (instant) => `${whole.format(new Date(instant))} (${typeof instant === "string" ? instant : new Date(instant).toISOString()})`;

const plain = new Intl.NumberFormat();
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
export const number = (value) => (value >= 100_000 ? compact.format(value) : plain.format(value));

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

let skew = 0;

/** The server's clock, which the times are of: that of the browser may be wrong. */
export const now = () => Date.now() + skew;
export const setSkew = (serverNow) => { skew = Date.parse(serverNow) - Date.now(); };
