// The life of a delegation, step by step: when, what it came to, why, and how long after the step before.

import { Age, Time } from "./parts.js";
import { html } from "./vendor.js";
import { FAILURES, STATUSES, WAITS, isEnded, plural, span, standing } from "./words.js";

/** The server keeps the first this many changes, and the ending. */
const KEPT = 200;
/** From this many signs of life in a row on they are one line. */
const BEATS = 3;
/** From this many steps of vain tries in a row on those between the first and the last are one line. */
const TRIES = 8;
const TRIES_SHOWN = 2;

/** What has the task, so that it is not sent once more. */
const HANDED_OVER = ["poll", "target_queue"];

export function Timeline({ data }) {
  const steps = stepsOf(data);
  const lasted = steps.length > 1 && new Date(steps.at(-1).at) - new Date(steps[0].at);
  return html`
    <section class="card timeline" aria-labelledby="of-life">
      <header class="row spread"><h2 id="of-life">Timeline</h2>
        <span class="quiet small number">${plural(steps.length, "change")}${lasted ? ` in ${span(lasted)}` : ""}</span></header>
      ${steps.length === 0 && html`<p class="quiet">Nothing of its history was kept.</p>`}
      <ol class="steps">
        ${folded(steps).map((part) => (part.steps
          ? html`<${Fold} key=${`fold ${part.steps[0].place}`} ...${part} />`
          : html`<${Step} key=${part.place} step=${part} />`))}
        ${!isEnded(data.status) && html`<${Ahead} data=${data} />`}
      </ol>
    </section>`;
}

function Step({ step }) {
  if (step.gap) return html`<li class="step gap"><p class="quiet small">Steps here were not kept: only the first ${KEPT} and the ending are.</p></li>`;
  return html`
    <li class=${step.isBeat || step.isLate ? "step beat" : "step"} data-status=${step.isLate ? undefined : step.status}>
      <p class="reached">${step.isLate ? "Late result" : html`<${Reached} status=${step.status} />`}${step.isNewTry && html`<span class="try">try ${step.attempt}</span>`}</p>
      <${When} step=${step} />
      <p class="cause"><${Cause} step=${step} /></p>
    </li>`;
}

const Reached = ({ status }) => html`<span title=${STATUSES[status]?.means}>${STATUSES[status]?.name ?? status}</span>`;

const Cause = ({ step: { cause, said } }) => html`${cause}${said && html`: <span class="said" dir="auto">${said}</span>`}`;

const When = ({ step }) => html`
  <p class="when"><${Time} at=${step.at} />${step.after !== null && html`<span class="after number"><span class="hidden-text">, </span>+${span(step.after)}<span class="hidden-text"> after the one before</span></span>`}</p>`;

/** Many alike in one line, which opens. */
function Fold({ kind, steps }) {
  const [first, last] = [steps[0], steps.at(-1)];
  const said = steps.findLast((step) => step.said)?.said;
  const tries = steps.filter(({ status }) => status === "dispatched").length;
  const text = kind === "beats" ? plural(steps.length, "heartbeat") : `${plural(tries, "more try", "more tries")} without an answer`;
  return html`
    <li class="step fold" data-status=${last.status}>
      <details>
        <summary><span class="folded">${text}</span><span class="quiet number"> in ${span(new Date(last.at) - new Date(first.at) + (first.after ?? 0))}</span>
          ${kind === "beats" && said && html`<span class="last-said" dir="auto">${said}</span>`}</summary>
        <ol class="inner" tabindex="0" aria-label=${text}>
          ${steps.map((step) => html`<li key=${step.place} data-status=${step.status}>
            <${When} step=${step} /><p class="cause">${kind === "tries" && html`<${Reached} status=${step.status} /> · `}<${Cause} step=${step} /></p></li>`)}
        </ol>
      </details>
    </li>`;
}

/** What is still to come. */
function Ahead({ data }) {
  const { next, at } = standing(data);
  const [now] = next && at !== data.deadline ? [next] : [];
  return html`
    ${now && html`<li class="step ahead"><p class="reached">Next</p><p class="when"><${Age} at=${at} until /></p><p class="cause">${now.charAt(0).toUpperCase() + now.slice(1)}</p></li>`}
    <li class="step ahead"><p class="reached">Deadline</p><p class="when"><${Age} at=${data.deadline} until /></p><p class="cause">Ends as failed if nothing has ended it by then</p></li>`;
}

/** The history with what can be read off from one step to the next. */
function stepsOf({ history = [], revision = 0, error_class: errorClass }) {
  const steps = history.map((entry, place) => {
    const before = history[place - 1];
    const isBeat = isSame(entry, before);
    const words = isBeat ? beat(entry, before) : causeOf(entry, before, errorClass);
    const after = before ? Math.max(0, new Date(entry.at) - new Date(before.at)) : null;
    return { ...entry, ...words, place, isBeat, after, isNewTry: entry.attempt > (before?.attempt ?? 0), isTry: isVain(entry) };
  });
  if (revision <= KEPT) return steps;
  const ending = steps.findIndex(({ status }) => isEnded(status));
  return steps.toSpliced(ending < 0 ? steps.length : ending, 0, { gap: true, place: "gap", at: steps.at(ending < 0 ? -1 : ending)?.at });
}

const isSame = (entry, before) => before !== undefined && entry.status === before.status && entry.attempt === before.attempt
  && !isEnded(entry.status) && entry.status !== "queued" && entry.status !== "input_required";

const isVain = ({ status, detail }) => status === "dispatched" || (status === "queued" && !HANDED_OVER.includes(detail));

// A sign of life without words repeats the words before it.
const beat = ({ detail }, before) => (detail && detail !== before.detail ? { cause: "Reported", said: detail } : { cause: "Heartbeat" });

/** Why it came to this, in words; `said` is what somebody wrote. */
function causeOf({ status, detail, attempt }, before, errorClass) {
  switch (status) {
    case "pending":
      return { cause: "Accepted and durable" };
    case "queued":
      return { cause: WAITS[detail]?.[0] ?? "Waits for the target" };
    case "dispatched":
      return { cause: attempt > 1 ? "Sent to the target again" : before ? "Sent to the target" : "The caller reported sending it itself" };
    case "received":
      return { cause: before?.detail === "poll" ? "The target fetched it from its inbox" : "The target took it" };
    case "in_progress":
      return { cause: working(attempt, before), said: detail };
    case "input_required":
      return { cause: before?.status === "input_required" ? "The target asks again" : "The target asks", said: detail };
    case "stuck":
      return { cause: "Nothing was heard for too long" };
    default:
      return ending(status, detail, before, errorClass);
  }
}

function working(attempt, before) {
  if (before?.status === "input_required") return attempt > before.attempt ? "The caller answered, and the target goes on" : "The target goes on by itself";
  if (before?.status === "stuck") return "The target was heard from again";
  return "The target works on it";
}

function ending(status, detail, before, errorClass) {
  if (isEnded(before?.status)) return { cause: "An answer came after the ending and was kept", isLate: true };
  if (status === "completed") return { cause: before ? "The answer came" : "Its result came before anything else was known of it" };
  if (status === "cancelled") return { cause: detail ? "It was withdrawn" : "Withdrawn without a reason", said: detail };
  return { cause: FAILURES[errorClass] ?? "It failed", said: detail };
}

/** The steps, with runs of alike ones in one part. */
function folded(steps) {
  const parts = [];
  for (const { kind, steps: run } of runs(steps)) {
    if (kind === "beats" && run.length >= BEATS) parts.push({ kind, steps: run });
    else if (kind === "tries" && run.length >= TRIES) {
      parts.push(...run.slice(0, TRIES_SHOWN), { kind, steps: run.slice(TRIES_SHOWN, -TRIES_SHOWN) }, ...run.slice(-TRIES_SHOWN));
    } else parts.push(...run);
  }
  return parts;
}

function runs(steps) {
  const found = [];
  for (const step of steps) {
    const kind = step.isBeat ? "beats" : step.isTry ? "tries" : "single";
    if (found.at(-1)?.kind === kind) found.at(-1).steps.push(step);
    else found.push({ kind, steps: [step] });
  }
  return found;
}
