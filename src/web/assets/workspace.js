// Workspaces by organisation, and the inbox of one: what waits, what was acknowledged, and a place to delegate from.

import { ask, query } from "./api.js";
import { Compose, Presence, mayActFor } from "./compose.js";
import { Age, Dialog, Doing, Empty, Failure, Loading, Long, Name, Status, Time, address, useLive, useLoaded, useNews } from "./parts.js";
import { Component, html, useEffect, useRef, useState } from "./vendor.js";
import { ENDINGS, clock, cut, number, plural } from "./words.js";

/* The list */

export function Workspaces({ live, session }) {
  useLive(live);
  const [text, setText] = useState("");
  const tree = arranged(live.workspaces, text.trim().toLowerCase());
  const load = loads(live.delegations);
  const own = session.principal === "workspace" ? live.workspaces.get(session.workspace_id) : null;
  if (live.position === null) return html`<div class="page"><${Loading} what="the workspaces" /></div>`;
  return html`
    <div class="page">
      <header class="row spread">
        <h1>Inboxes</h1>
        <div class="filter"><label class="hidden-text" for="filter">Filter by name or role</label>
          <input id="filter" type="search" data-search placeholder="Filter by name or role" value=${text} onInput=${(event) => setText(event.target.value)} /></div>
      </header>
      ${own && html`<a class="card own" href=${`#/workspaces/${own.id}`}><strong>${own.name}</strong><${Presence} status=${own.status} /><span class="quiet small">Your own inbox</span></a>`}
      ${live.workspaces.size === 0 ? html`<div class="card"><${Empty} title="No workspaces yet"><p>Create one with <code>POST /workspaces</code>; <a href="/docs">the API</a> says how.</p><//></div>`
    : tree.length === 0 ? html`<div class="card"><${Empty} title="No workspace matches"><button onClick=${() => setText("")}>Show all ${number(live.workspaces.size)}</button><//></div>`
    : html`<div class="card tight"><table class="table tree cards compact">
        <caption class="hidden-text">Workspaces by organisation, each below its parent</caption>
        <thead><tr><th scope="col">Workspace</th><th scope="col">Presence</th><th scope="col" class="right">Working on</th><th scope="col" class="right">Received, live</th><th scope="col" class="right">Sent, live</th></tr></thead>
        ${tree.map((organisation) => html`<tbody key=${organisation[0].workspace.id}>${organisation.map(({ workspace, depth, faint }) => {
    const { given = 0, gave = 0 } = load.get(workspace.id) ?? {};
    return html`<${Row} key=${workspace.id} id=${workspace.id} name=${workspace.name} role=${workspace.role} status=${workspace.status} active=${workspace.active_tasks ?? 0} depth=${depth} faint=${faint} given=${given} gave=${gave} />`;
  })}</tbody>`)}
      </table></div>`}
    </div>`;
}

/** Hundreds of rows are looked at four times a second, and few of them are different. */
class Row extends Component {
  shouldComponentUpdate(next) {
    return Object.keys(next).some((member) => next[member] !== this.props[member]);
  }

  render({ id, name, role, status, active, depth, faint, given, gave }) {
    const figure = (value) => (value ? number(value) : html`<span class="quiet">–</span>`);
    return html`
      <tr class=${`depth-${Math.min(depth, 6)}${faint ? " faint" : ""}`}>
        <th scope="row"><a href=${`#/workspaces/${id}`} title=${id}>${name}</a>${role && html` <span class="quiet small">${role}</span>`}</th>
        <td data-label="Presence"><${Presence} status=${status} /></td>
        <td data-label="Working on" class="right">${figure(active)}</td>
        <td data-label="Received" class="right">${figure(given)}</td>
        <td data-label="Sent" class="right">${figure(gave)}</td>
      </tr>`;
  }
}

/** Organisations, each a list from its root downwards, of those that match and, faint, those above them. */
function arranged(workspaces, text) {
  const below = Map.groupBy(workspaces.values(), ({ parent_id: parent }) => (workspaces.has(parent) ? parent : null));
  const matches = ({ name, role, id }) => !text || [name, role, id].some((said) => said?.toLowerCase().includes(text));
  const under = (parent, depth) => sorted(below.get(parent)).flatMap((workspace) => {
    const inner = depth < 32 ? under(workspace.id, depth + 1) : [];
    const matched = matches(workspace);
    return matched || inner.length ? [{ workspace, depth, faint: !matched }, ...inner] : [];
  });
  return sorted(below.get(null)).map((root) => {
    const inner = under(root.id, 1);
    return matches(root) || inner.length ? [{ workspace: root, depth: 0, faint: !matches(root) }, ...inner] : [];
  }).filter((organisation) => organisation.length);
}

const sorted = (workspaces = []) => [...workspaces].sort((one, other) => one.name.localeCompare(other.name));

/** How many live delegations each workspace was given, and gave. */
function loads(delegations) {
  const found = new Map();
  const add = (id, member) => {
    if (!found.has(id)) found.set(id, { given: 0, gave: 0 });
    found.get(id)[member] += 1;
  };
  for (const { caller, target } of delegations.values()) {
    add(caller, "gave");
    add(target, "given");
  }
  return found;
}

/* One */

export function Workspace({ live, session, id }) {
  const known = useKnown(live, id);
  if (known === null) return html`<div class="page"><${Loading} what="the inbox" /></div>`;
  if (!known) return html`<div class="page"><${Empty} title="No such workspace"><p>It was removed, or you may not see it.</p><a class="button" href="#/workspaces">All inboxes</a><//></div>`;
  return html`
    <div class="page">
      <${Heading} live=${live} id=${id} mayAct=${mayActFor(session, id)} />
      ${mayActFor(session, id)
    ? html`<div class="desk">
        <${Inbox} live=${live} session=${session} id=${id} />
        <aside class="card" aria-labelledby="compose"><h2 id="compose">Delegate from here</h2><${Compose} live=${live} session=${session} caller=${id} /></aside>
      </div>`
    : html`<div class="card"><${Empty} title="This inbox is not yours to open"><p>Only ${live.name(id)} itself and the admin can read it.</p><a class="button" href="#/workspaces">All inboxes</a><//></div>`}
    </div>`;
}

/** Whether a workspace is there; `null` as long as that is not known. Messages are not drawn anew for each event. */
function useKnown(live, id) {
  const look = () => (live.position === null ? null : live.workspaces.has(id));
  const [known, setKnown] = useState(look);
  useEffect(() => live.watch(() => setKnown(look())), [live, id]);
  return known;
}

/** Where there is no room for it beside the messages, the composer is far below them. */
const toCompose = () => document.querySelector(".desk .compose input")?.focus();

const MODES = { push: "pushed: Baton calls it", poll: "polled: it fetches its work" };

function Heading({ live, id, mayAct }) {
  useLive(live);
  const workspace = live.workspaces.get(id);
  if (!workspace) return null;
  const { name, role, status, parent_id: parent, delivery_mode: mode, last_heartbeat_at: beat, active_tasks: active = 0, max_concurrent_tasks: most, current_task: task } = workspace;
  return html`
    <header class="heading">
      <p class="small"><a href="#/workspaces">Inboxes</a> <span class="quiet" aria-hidden="true">/</span></p>
      <div class="row"><h1>${name}</h1><${Presence} status=${status} />${role && html`<span class="quiet">${role}</span>`}
        ${mayAct && html`<button class="to-compose" onClick=${toCompose}>Delegate…</button>`}</div>
      <dl class="facts small">
        <div><dt>Last heartbeat</dt><dd>${beat ? html`<${Age} at=${beat} /> ago` : "none yet"}</dd></div>
        <div><dt>Delivery</dt><dd>${MODES[mode] ?? mode}</dd></div>
        <div><dt>Parent</dt><dd>${parent ? html`<${Name} live=${live} id=${parent} />` : "none (a root)"}</dd></div>
        <div><dt>Working on</dt><dd class="number">${number(active)}${most > 1 ? ` of ${number(most)} at once` : ""}</dd></div>
        <div><dt>Delegations</dt><dd><a href=${`#/delegations?workspace_id=${encodeURIComponent(id)}`}>sent and received</a></dd></div>
      </dl>
      ${task && html`<p class="small quiet current">Now: ${task}</p>`}
    </header>`;
}

/* Its inbox */

/** How many are shown at first, and how many at most: the server gives no more at once. */
const SHOWN = 50;
const SHOWN_MOST = 500;
const PAGE = 30;
/** How soon after word of something the inbox is read again; how often without any, as agents acknowledge silently. In ms. */
const SOON = 2_000;
const SELDOM = 15_000;

function Inbox({ live, session, id }) {
  const [limit, setLimit] = useState(SHOWN);
  const heading = useRef(null);
  const { data, error, reload } = useLoaded((signal) => ask(`${at(id)}/inbox${query({ limit, peek: true })}`, { signal }), [id, limit]);
  useNews(live, reload, { concerns: (event) => concerns(event, id), pause: SOON, seldom: SELDOM });
  const acknowledge = async (seq, close) => {
    await ask(`${at(id)}/activity/ack`, { body: { acked_seq: seq } });
    close();
    // The dialog gives the keyboard back to a button that goes with its message.
    setTimeout(() => {
      heading.current?.focus();
      reload();
    });
  };
  const waiting = data?.messages ?? [];
  const more = waiting.length === limit;
  return html`
    <div class="inbox">
      ${!session.inbox_push && html`<${Unwritten} id=${id} />`}
      <section class="card" aria-labelledby="waiting">
        <header class="row spread">
          <h2 id="waiting" tabindex="-1" ref=${heading}>Waiting${data && html` <span class="quiet number">${number(waiting.length)}${more ? "+" : ""}</span>`}</h2>
          <p class="quiet small">${looking(live.workspaces.get(id))}</p>
        </header>
        ${error && html`<${Failure} error=${error} again=${reload} />`}
        ${!data && !error && html`<${Loading} what="the inbox" />`}
        ${data && waiting.length === 0 && html`<${Empty} title="Nothing waits"><p>Messages appear here as they come, and stay until they are acknowledged.</p><//>`}
        <ol class="messages">${waiting.map((row, index) => html`<${Message} key=${row.id} live=${live} row=${row} count=${index + 1} acknowledge=${acknowledge} />`)}</ol>
        ${more && limit < SHOWN_MOST && html`<button onClick=${() => setLimit(SHOWN_MOST)}>Show up to ${number(SHOWN_MOST)}</button>`}
        ${more && limit === SHOWN_MOST && html`<p class="quiet small">These are the oldest ${number(SHOWN_MOST)}; newer ones follow as these are acknowledged.</p>`}
      </section>
      ${data && html`<${Acknowledged} live=${live} id=${id} upto=${data.last_acked_seq} />`}
    </div>`;
}

const at = (id) => `/workspaces/${encodeURIComponent(id)}`;

const looking = (workspace) => (workspace?.delivery_mode === "poll"
  ? "Viewing takes nothing: a request counts as fetched only when the agent reads it."
  : "Viewing takes nothing: a message stays until it is acknowledged.");

const Unwritten = ({ id }) => html`
  <div class="card notice small">
    <strong>Replies are not written into inboxes here.</strong> Start Baton with <code>DELEGATION_RESULT_INBOX_PUSH=1</code> and each ending is
    written into its caller's inbox. Until then the results are in <a href=${`#/delegations?workspace_id=${encodeURIComponent(id)}`}>its delegations</a>.
  </div>`;

/** Whether an event may have put something into this inbox: an ending of what it sent, a request to it, its own word. */
function concerns(event, id) {
  if (!event) return true;
  if (event.event === "DELEGATION_STATUS") return event.payload.target_id === id && event.payload.waiting_for === "poll";
  return event.workspace_id === id && (event.event in ENDINGS || event.event === "ACTIVITY_LOGGED" || event.event === "AGENT_MESSAGE");
}

/** What was acknowledged, newest first, page by page. */
function Acknowledged({ live, id, upto }) {
  const [rows, setRows] = useState([]);
  const [over, setOver] = useState(false);
  const read = (before, signal) => ask(`${at(id)}/activity${query({ type: "a2a_receive", before_seq: before, limit: PAGE, peek: true })}`, { signal });
  const newest = useLoaded((signal) => read(upto + 1, signal), [id, upto]);
  useEffect(() => {
    if (!newest.data) return;
    const met = rows.length > 0 && newest.data.some(({ seq }) => seq === rows[0].seq);
    const kept = met ? rows.filter(({ seq }) => seq < newest.data.at(-1).seq) : [];
    setRows([...newest.data, ...kept]);
    if (!met) setOver(newest.data.length < PAGE);
  }, [newest.data]);
  const older = async () => {
    const page = await read(rows.at(-1).seq);
    setRows((before) => [...before, ...page.filter(({ seq }) => seq < before.at(-1).seq)]);
    setOver(page.length < PAGE);
  };
  return html`
    <section class="card" aria-labelledby="acknowledged">
      <h2 id="acknowledged">Acknowledged</h2>
      ${newest.error && html`<${Failure} error=${newest.error} again=${newest.reload} />`}
      ${!newest.data && !newest.error && html`<${Loading} what="what was acknowledged" />`}
      ${newest.data && rows.length === 0 && html`<p class="quiet small">Nothing has been acknowledged yet.</p>`}
      <ol class="messages">${rows.map((row) => html`<${Message} key=${row.id} live=${live} row=${row} />`)}</ol>
      ${rows.length > 0 && !over && html`<${Doing} label="Show older ones" doing="Loading…" act=${older} />`}
    </section>`;
}

/* A message */

/** One row of an inbox; with `acknowledge` it still waits, as the `count`th. */
function Message({ live, row, count, acknowledge }) {
  const message = told(row);
  const [asked, setAsked] = useState(false);
  const text = acknowledge
    ? html`<${Long} text=${message.text} limit=${1200} />`
    : html`<details><summary dir="auto">${cut(message.text, 140) || "(empty)"}</summary><${Long} text=${message.text} /></details>`;
  return html`
    <li class="message">
      <div class="row">
        <strong>${message.from ? html`<${Name} live=${live} id=${message.from} />` : message.sender}</strong>
        <span class="quiet">${message.kind}</span>
        ${message.outcome && html`<${Status} status=${message.outcome} />`}
        ${message.delegation && html`<a class="small" href=${message.delegation}>Delegation</a>`}
        <span class="when quiet small"><${Time} at=${row.created_at} /></span>
      </div>
      ${text}
      ${message.files.length > 0 && html`<ul class="files small">${message.files.map((file) => html`<li><span class="mono">${file.name}</span> <span class="quiet">${file.uri}</span></li>`)}</ul>`}
      ${acknowledge && html`<button class="plain small" onClick=${() => setAsked(true)}>Acknowledge up to here</button>`}
      ${asked && html`<${Sure} row=${row} count=${count} acknowledge=${acknowledge} onClose=${() => setAsked(false)} />`}
    </li>`;
}

const Sure = ({ row, count, acknowledge, onClose }) => html`
  <${Dialog} title=${count === 1 ? "Acknowledge this message?" : `Acknowledge ${plural(count, "message")}?`} onClose=${onClose}>
    <p>${count === 1 ? "It counts" : `This one of ${clock(row.created_at)} and all older ones count`} as taken: the agent no longer finds ${count === 1 ? "it" : "them"} in its inbox. This cannot be undone.</p>
    <div class="row"><${Doing} kind="primary" label="Acknowledge" doing="Acknowledging…" act=${() => acknowledge(row.seq, onClose)} /><button onClick=${onClose}>Not now</button></div>
  <//>`;

/** What a row says, in the terms of a reader: from whom, of what kind, which text, and of which delegation. */
function told(row) {
  const { method, request_body: request, response_body: response } = row;
  const plain = { text: textOf(row), files: filesOf(response), sender: "A person at the canvas", from: row.source_id };
  const link = (caller, id) => (caller && id ? address(caller, id) : null);
  switch (method) {
    case "delegate_result":
      return { ...plain, kind: "replied", from: row.target_id, sender: "Somebody", outcome: outcome(row), delegation: link(row.workspace_id, request?.delegation_id) };
    case "message/send":
      return { ...plain, kind: "asks for work", delegation: link(row.source_id, request?.params?.message?.messageId) };
    case "notify":
      return { ...plain, kind: "told people", from: row.workspace_id, text: String(response?.result ?? plain.text) };
    default:
      return { ...plain, kind: "wrote" };
  }
}

const outcome = ({ status, summary }) => (status === "ok" ? "completed" : summary === "Delegation cancelled" ? "cancelled" : "failed");

/** The text parts, where a reader of the published rule finds them; else the summary. */
function textOf({ request_body: request, summary }) {
  const places = [request?.params?.message?.parts, request?.params?.parts, request?.parts];
  const parts = places.find(Array.isArray) ?? [];
  const texts = parts.filter((part) => typeof part?.text === "string" && ["text", undefined].includes(part.kind ?? part.type));
  return texts.map(({ text }) => text).join("\n") || summary || "(empty A2A message)";
}

function filesOf(response) {
  const parts = Array.isArray(response?.parts) ? response.parts : [];
  return parts.map((part) => part?.file).filter(Boolean).map(({ name, uri }) => ({ name: String(name), uri: String(uri) }));
}
