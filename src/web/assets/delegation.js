// One delegation: where it stands and what may be done, its life, its texts, and what belongs to it.

import { ask } from "./api.js";
import { key } from "./live.js";
import { Outcome } from "./outcome.js";
import { Age, Copy, Failure, Loading, Long, Name, Status, useLoaded, useNews } from "./parts.js";
import { Actions, Answer } from "./steering.js";
import { Deliveries, Family, Particulars } from "./surroundings.js";
import { Timeline } from "./timeline.js";
import { html, useRef } from "./vendor.js";
import { isEnded, short, standing } from "./words.js";

/** How long after an event it is read again, with what the events until then changed, in ms. */
const PAUSE = 500;
/** How often it is looked whether what has no events came about: an acknowledgement, a webhook delivered, in ms. */
const LOOK = 15_000;

export function Delegation({ live, session, caller, id }) {
  const path = `/canvas/delegations/${encodeURIComponent(caller)}/${encodeURIComponent(id)}`;
  const { data, error, loading, reload } = useLoaded((signal) => ask(path, { signal }), [path]);
  const title = useRef(null);
  useFresh(live, caller, id, data, reload);
  if (error && !data) return html`<div class="page">${error.status === 404 ? html`<${Missing} id=${id} />` : html`<${Failure} error=${error} again=${reload} />`}</div>`;
  if (!data) return html`<div class="page"><${Loading} what="the delegation" /></div>`;
  const isCallers = session.principal === "admin" || session.workspace_id === caller;
  // What was pressed may be gone when it is drawn again; the keyboard goes on from the title.
  const done = () => {
    reload();
    setTimeout(() => document.activeElement === document.body && title.current?.focus());
  };
  return html`
    <article class="page delegation" aria-busy=${String(loading)}>
      ${error && html`<p class="fault" role="alert">This may be out of date: ${error.message}. <button onClick=${reload}>Try again</button></p>`}
      <${Head} ...${{ live, data, caller, id, isCallers, done, title }} />
      <div class="halves">
        <div class="half">
          ${isCallers && data.status === "input_required" && html`<${Answer} ...${{ data, caller, id, done }} />`}
          <section class="card" aria-labelledby="of-task"><h2 id="of-task">Task</h2><${Long} text=${data.task ?? data.task_preview ?? ""} /></section>
          <${Outcome} data=${data} caller=${caller} id=${id} />
          <${Family} live=${live} data=${data} />
          <${Deliveries} live=${live} data=${data} />
          <${Particulars} data=${data} />
        </div>
        <${Timeline} data=${data} />
      </div>
    </article>`;
}

/** What belongs to it and has a life of its own. */
const familyOf = (data) => [data.parent, data.retried_from, ...(data.children ?? []), ...(data.retried_as ?? [])].filter(Boolean);

/** Reads it again when there is news of it or of its family. */
function useFresh(live, caller, id, data, reload) {
  const family = data ? familyOf(data) : [];
  const keys = new Set([key(caller, id), ...family.map((line) => key(line.caller_id, line.delegation_id))]);
  const concerns = (event) => !event || (event.payload?.delegation_id && keys.has(key(event.workspace_id, event.payload.delegation_id)));
  const isOpen = data && (!isEnded(data.status) || isUnsettled(data, family));
  useNews(live, reload, { concerns, pause: PAUSE, seldom: isOpen ? LOOK : undefined });
}

/** Whether something is still to come that no event tells of. */
const isUnsettled = (data, family) => family.some((line) => !isEnded(line.status))
  || (data.deliveries ?? []).some(({ state, acknowledged }) => state === "owed" || state === "waiting" || acknowledged === false);

function Head({ live, data, caller, id, isCallers, done, title }) {
  const { why, next, at } = standing(data);
  const ended = isEnded(data.status);
  const isUntimely = next && at === data.deadline;
  return html`
    <header class="head card" data-status=${data.status}>
      <p class="small"><a href="#/delegations">← Delegations</a></p>
      <div class="row spread">
        <h1 tabindex="-1" ref=${title}><${Status} status=${data.status} /><span class="hidden-text"> delegation </span>
          <span class="parties"><${Party} live=${live} id=${caller} name=${data.caller_name} /> <span aria-hidden="true">→</span><span class="hidden-text"> to </span> <${Party} live=${live} id=${data.target_id} name=${data.target_name} /></span></h1>
        ${isCallers && html`<${Actions} ...${{ data, caller, id, done }} />`}
      </div>
      ${!ended && html`<p class="standing">${closed(why)}${next && html` <span class="quiet">${sentence(next)} <${Age} at=${at} until />.</span>`}
        ${!isUntimely && html` <span class="quiet">Ends without an answer <${Age} at=${data.deadline} until />.</span>`}</p>`}
      ${!ended && data.progress && html`<${Progress} progress=${data.progress} />`}
      <p class="quiet small about"><span class="mono id">${id}</span><${Copy} text=${id} label="Copy the id" />
        <span>${ended && data.ended_at ? html`ended <${Age} at=${data.ended_at} /> ago, after <${Lasted} data=${data} />` : html`accepted <${Age} at=${data.created_at} /> ago`}</span></p>
    </header>`;
}

/** With a full stop, unless others ended it with a sign of their own. */
const closed = (text) => (/[.?!…]$/.test(text) ? text : `${text}.`);
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const Lasted = ({ data }) => html`<${Age} at=${data.created_at} to=${data.ended_at} />`;

/** A workspace by name, also when it was removed. */
const Party = ({ live, id, name }) => (live.name(id) || !name
  ? html`<${Name} live=${live} id=${id} />`
  : html`<span title=${`${id} (removed, or not to be seen)`}>${name}</span>`);

function Progress({ progress: { percent } }) {
  if (percent === undefined || percent === null) return null;
  return html`<progress aria-label="How far the work is" max="100" value=${percent}>${percent}%</progress>`;
}

const Missing = ({ id }) => html`
  <div class="empty unfound">
    <h1 class="empty-title">There is no delegation ${short(id)} here</h1>
    <p>The id may be cut off, or belong to another caller; the delegation may have been pruned after it ended; or the workspace whose token you use neither sent nor received it.</p>
    <div class="row"><a class="button" href="#/delegations">All delegations</a><a class="button" href=${`#/delegations?q=${encodeURIComponent(id)}`}>Search for this id</a></div>
  </div>`;
