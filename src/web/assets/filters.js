// Which delegations the list shows: chips, a workspace, a search. All of it stands in the address.

import { query } from "./api.js";
import { asked, wanted } from "./listing.js";
import { useLive } from "./parts.js";
import { html, useEffect, useRef, useState } from "./vendor.js";
import { ENDED, LIVE, STATUSES, number, short } from "./words.js";

/** How long nothing is typed before it is searched for, in ms. */
const PAUSE = 400;

const addressOf = (filter) => `#/delegations${query(asked(filter))}`;

export function Filters({ live, session, search }) {
  const filter = wanted(search);
  const change = (members) => { location.hash = addressOf({ ...filter, ...members }).slice(1); };
  // What is typed letter by letter is one step back.
  const searchFor = (q) => location.replace(addressOf({ ...filter, q }));
  return html`
    <div class="filters">
      <div class="row finders">
        ${session.principal === "admin" && html`<${Picker} live=${live} id=${filter.workspace} pick=${(workspace) => change({ workspace })} />`}
        <${Search} q=${filter.q} searchFor=${searchFor} />
      </div>
      <${Chips} live=${live} filter=${filter} choose=${(words) => change({ words })} />
    </div>`;
}

/** How many are live of each status, among those of one workspace if one is chosen. */
function counts(live, workspace) {
  const found = Object.fromEntries(LIVE.map((status) => [status, 0]));
  for (const { status, caller, target } of live.delegations.values()) {
    if (!workspace || caller === workspace || target === workspace) found[status] += 1;
  }
  return found;
}

function Chips({ live, filter, choose }) {
  useLive(live);
  const count = counts(live, filter.workspace);
  const inFlight = LIVE.reduce((sum, status) => sum + count[status], 0) + (filter.workspace ? 0 : live.unseen);
  const has = (word) => filter.words.includes(word);
  // A group stands for its members: choosing one of these narrows it, choosing it takes the place of these.
  const toggle = (word, group, members) => () => {
    if (has(word)) return choose(filter.words.filter((one) => one !== word));
    const kept = filter.words.filter((one) => (word === group ? !members.includes(one) : one !== group));
    choose([...kept, word]);
  };
  const chip = (word, text, group, members, amount, title) => html`
    <button type="button" key=${word} class=${`chip${word === group ? " group" : ""}`} data-status=${word} aria-pressed=${String(has(word))} title=${title} onClick=${toggle(word, group, members)}>
      ${word !== group && html`<i aria-hidden="true"></i>`}${text}${amount !== undefined && html`<span class="amount number">${number(amount)}</span>`}
    </button>`;
  const each = (members, group) => members.map((status) => chip(status, STATUSES[status].name, group, members, count[status], STATUSES[status].means));
  return html`
    <div class="chips" role="group" aria-label="Status">
      <button type="button" class="chip group" aria-pressed=${String(filter.words.length === 0)} onClick=${() => choose([])}>All</button>
      <span class="chips-of">${chip("in_flight", "In flight", "in_flight", LIVE, inFlight, "Every status before an ending")}${each(LIVE, "in_flight")}</span>
      <span class="chips-of">${chip("ended", "Ended", "ended", ENDED, undefined, "Completed, failed or cancelled")}${each(ENDED, "ended")}</span>
    </div>`;
}

/** Workspaces by the words they are picked by: a name, and more of those that share one. */
function named(live) {
  const found = new Map();
  for (const { id, name } of live.workspaces.values()) {
    const isTaken = found.has(name);
    found.set(isTaken ? `${name} ${short(id)}` : name, id);
  }
  return new Map([...found].sort(([one], [other]) => one.localeCompare(other)));
}

function Picker({ live, id, pick }) {
  const [offered, offer] = useState(new Map());
  const field = useRef(null);
  const name = useName(live, id);
  useEffect(() => { field.current.value = name; }, [name]);
  const take = ({ target }) => {
    const text = target.value.trim();
    const found = text === "" ? "" : offered.get(text);
    if (found !== undefined && found !== id) pick(found);
  };
  const begin = ({ target }) => {
    offer(named(live));
    target.select();
  };
  const leave = ({ target }) => {
    const text = target.value.trim();
    if (text && !offered.has(text)) target.value = name;
  };
  return html`
    <div class="field picker">
      <label for="of-workspace">Workspace</label>
      <input id="of-workspace" ref=${field} type="search" list="workspaces-offered" placeholder="Any" autocomplete="off" spellcheck=${false}
        onFocus=${begin} onInput=${take} onChange=${leave} />
      <datalist id="workspaces-offered">${[...offered.keys()].map((text) => html`<option value=${text} key=${text} />`)}</datalist>
    </div>`;
}

/** What the workspace of this id is called, as soon as that is known. */
function useName(live, id) {
  const call = () => (id ? live.name(id) ?? short(id) : "");
  const [, draw] = useState("");
  useEffect(() => live.watch(() => draw(call())), [live, id]);
  return call();
}

function Search({ q, searchFor }) {
  const field = useRef(null);
  const timer = useRef(null);
  useEffect(() => {
    // Going back and forth changes the field; what is being typed is newer than the address.
    if (timer.current === null && field.current.value.trim() !== q) field.current.value = q;
  }, [q]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const now = () => {
    clearTimeout(timer.current);
    timer.current = null;
    const text = field.current.value.trim();
    if (text !== q) searchFor(text);
  };
  const later = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(() => latest.current(), PAUSE);
  };
  const latest = useRef(now);
  latest.current = now;
  return html`
    <form class="field search" role="search" onSubmit=${(event) => { event.preventDefault(); now(); }}>
      <label for="search">Search</label>
      <input id="search" ref=${field} type="search" data-search placeholder="Id, task, result or error" autocomplete="off" spellcheck=${false} maxlength="200"
        aria-keyshortcuts="/" onInput=${later} />
    </form>`;
}
