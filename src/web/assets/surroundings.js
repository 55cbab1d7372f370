// What belongs to a delegation: its family, who was told of its ending, and its particulars.

import { Age, Copy, Name, Status, Time, address } from "./parts.js";
import { html } from "./vendor.js";
import { STATUSES, isEnded, number, plural, short } from "./words.js";

/* The family */

export function Family({ live, data }) {
  const { parent, children = [], children_more: more, retried_from: from, retried_as: as = [] } = data;
  if (!parent && !from && children.length === 0 && as.length === 0) return null;
  return html`
    <section class="card family" aria-labelledby="of-family">
      <h2 id="of-family">Family</h2>
      <${Kin} live=${live} title="Part of" lines=${parent ? [parent] : []} />
      <${Kin} live=${live} title="Retry of" lines=${from ? [from] : []} />
      <${Kin} live=${live} title="Retried as" lines=${as} />
      <${Kin} live=${live} title="Handed on" lines=${children} more=${more} />
    </section>`;
}

function Kin({ live, title, lines, more }) {
  if (lines.length === 0) return null;
  return html`
    <div class="kin">
      <h3>${title}${lines.length > 1 && html`<span class="quiet small number">${summary(lines, more)}</span>`}</h3>
      <ul class=${lines.length > 8 ? "kin-scroll" : ""} tabindex=${lines.length > 8 ? "0" : undefined} aria-label=${lines.length > 8 ? title : undefined}>
        ${lines.map((line) => html`<li key=${`${line.caller_id}/${line.delegation_id}`} data-status=${line.status}>
          <${Status} status=${line.status} />
          <a href=${address(line.caller_id, line.delegation_id)} title=${line.task_preview} dir="auto">${line.task_preview || short(line.delegation_id)}</a>
          <span class="quiet small">${line.target_id && html`<span class="target">to <${Name} live=${live} id=${line.target_id} link=${false} /></span> · `}<${Age} at=${line.created_at} /> ago</span>
        </li>`)}
      </ul>
      ${more && html`<p class="quiet small">There are more than these.</p>`}
    </div>`;
}

/** How many there are of each status, those that have not ended first. */
function summary(lines, more) {
  const count = Map.groupBy(lines, ({ status }) => status);
  const said = Object.keys(STATUSES).filter((status) => count.has(status)).map((status) => `${number(count.get(status).length)} ${STATUSES[status].name.toLowerCase()}`);
  return ` ${number(lines.length)}${more ? "+" : ""}: ${said.join(", ")}`;
}

/* Who was told */

const RECEIVERS = {
  inbox: { name: "Inbox", of: "the reply in the caller's inbox" },
  webhook: { name: "Webhook", of: "the ending, to an address of the caller's" },
  push: { name: "Push", of: "the ending, to a receiver of this task" },
  target: { name: "Target", of: "the task itself" },
};

const STATES = {
  delivered: { word: "Delivered", kind: "good" },
  owed: { word: "Owed", kind: "warn" },
  waiting: { word: "Not yet", kind: "idle" },
  none: { word: "Nothing to deliver", kind: "idle" },
  dead: { word: "Given up", kind: "warn" },
};

/** What the target ended up without, as far as it showed. */
const UNSEEN = { word: "Not seen to arrive", kind: "idle" };

/** Addresses of the caller's own; of these it is told how often they failed in a row. */
const OF_CALLER = ["webhook", "push"];

export function Deliveries({ live, data }) {
  const deliveries = data.deliveries ?? [];
  return html`
    <section class="card deliveries" aria-labelledby="of-deliveries">
      <h2 id="of-deliveries">Delivered to</h2>
      ${deliveries.length === 0
        ? html`<p class="quiet">${isEnded(data.status) ? "Nobody had to be told of this ending." : "It is delivered when it ends."}</p>`
        : html`<ul>${deliveries.map((delivery, index) => html`<${Delivery} key=${`${delivery.to} ${index}`} live=${live} delivery=${delivery} />`)}</ul>`}
    </section>`;
}

function Delivery({ live, delivery }) {
  const { to, workspace_id: workspace, name, address: where, state, at, acknowledged, attempts, last_error: fault } = delivery;
  const receiver = RECEIVERS[to] ?? { name: to, of: "" };
  const shown = (to === "target" && state === "none" && UNSEEN) || STATES[state] || { word: state, kind: "idle" };
  return html`
    <li>
      <p class="to"><strong title=${receiver.of}>${receiver.name}</strong>
        ${workspace && !OF_CALLER.includes(to) && (live.name(workspace) || !name ? html`<${Name} live=${live} id=${workspace} />` : html`<span title=${workspace}>${name}</span>`)}
        ${where && html`<span class="mono address">${where}</span>`}</p>
      <p class="state"><span class="delivered" data-kind=${shown.kind}><i aria-hidden="true"></i>${shown.word}</span>
        ${at && html` <span class="quiet small"><${Time} at=${at} /></span>`}
        ${acknowledged !== undefined && acknowledged !== null && html`<span class=${`seen small ${acknowledged ? "" : "quiet"}`}>${acknowledged ? "✓ acknowledged" : "not acknowledged yet"}</span>`}
        ${attempts > 0 && html`<span class="quiet small number">${plural(attempts, ...(OF_CALLER.includes(to) ? ["failed try", "failed tries"] : ["try", "tries"]))}</span>`}</p>
      ${fault && html`<p class="fault small" dir="auto">${fault}</p>`}
    </li>`;
}

/* Particulars */

const ORIGINS = {
  delegated: "Sent by Baton",
  recorded: "Sent by the caller, recorded here",
  adopted: "Unknown until its result came",
};

const REDELIVERIES = {
  never: "Never: if it is unknown whether it arrived, it ends",
  if_idempotent: "If the target drops repetitions",
  always: "Always: the target may get it twice",
};

const PRIORITIES = { 100: "critical", 50: "task", 10: "info" };

const instant = (at) => at && html`<${Time} at=${at} />`;
const id = (text, what) => text && html`<span class="mono id">${text}</span><${Copy} text=${text} label=${`Copy the ${what}`} />`;

/** Pairs of a name and what stands there, of what is known. */
const known = (pairs) => pairs.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");

const idsOf = (data) => known([
  ["Delegation", id(data.delegation_id, "id of the delegation")],
  ["Caller", id(data.caller_id ?? data.source_id, "id of the caller")],
  ["Target", id(data.target_id, "id of the target")],
  ["Target's task", id(data.task_id, "id of the target's task")],
  ["Trace", id(data.trace_id ?? data.traceparent, "trace")],
  ["Idempotency key", id(data.idempotency_key, "idempotency key")],
]);

const othersOf = (data) => known([
  ["Accepted", instant(data.created_at)],
  ["Last change", instant(data.updated_at)],
  ["Last sign of life", instant(data.last_heartbeat)],
  ["Ended", instant(data.ended_at)],
  ["Deadline", instant(data.deadline)],
  ["Attempts", number(data.attempts ?? 0)],
  ["Failed in a row", data.failures && html`${number(data.failures)}${data.failing_since && html`, since ${instant(data.failing_since)}`}`],
  ["Priority", data.priority !== undefined && `${data.priority}${PRIORITIES[data.priority] ? ` (${PRIORITIES[data.priority]})` : ""}`],
  ["Sent again", REDELIVERIES[data.redelivery] ?? data.redelivery],
  ["Origin", ORIGINS[data.origin] ?? data.origin],
  ["Revision", data.revision !== undefined && number(data.revision)],
]);

const Facts = ({ pairs, kind }) => html`<dl class=${kind}>${pairs.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

export const Particulars = ({ data }) => html`
  <section class="card particulars" aria-labelledby="of-particulars">
    <h2 id="of-particulars">Particulars</h2>
    <${Facts} kind="ids" pairs=${idsOf(data)} />
    <${Facts} kind="others" pairs=${othersOf(data)} />
  </section>`;
