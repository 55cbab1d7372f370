// The list of delegations: what they are, where they stand, why they wait; and many cancelled or retried at once.

import { Bulk } from "./bulk.js";
import { Filters } from "./filters.js";
import { Listing, NEWER_COUNTED, asked, keyOf, wanted } from "./listing.js";
import { Age, Empty, Failure, Loading, Name, Status, address } from "./parts.js";
import { html, useEffect, useLayoutEffect, useMemo, useReducer, useRef, useState } from "./vendor.js";
import { ENDED, LIVE, cut, isEnded, number, plural, short, standing } from "./words.js";

/** The listing of what is wanted; until its first page is here, the one before. */
function useListing(live, filter) {
  const [, draw] = useReducer((count) => count + 1, 0);
  const shown = useRef(null);
  const latest = useRef(null);
  useEffect(() => {
    const listing = new Listing(live, filter, () => {
      if (listing.begun || listing.error || !shown.current) shown.current = listing;
      draw();
    });
    latest.current = listing;
    listing.begin();
    return () => listing.stop();
  }, [live, JSON.stringify(asked(filter))]);
  return { listing: shown.current, arriving: shown.current !== latest.current };
}

/** A number that is another one when the names of workspaces were learnt anew. */
function useNaming(live) {
  const [naming, draw] = useReducer((count) => count + 1, 0);
  const seen = useRef(live.workspaces);
  useEffect(() => live.watch(() => {
    if (seen.current === live.workspaces) return;
    seen.current = live.workspaces;
    draw();
  }), [live]);
  return naming;
}

export function Delegations({ live, session, search }) {
  const filter = wanted(search);
  const { listing, arriving } = useListing(live, filter);
  const naming = useNaming(live);
  const [chosen, setChosen] = useState(new Map());
  const [bulk, setBulk] = useState(null);
  const title = useRef(null);
  useEffect(() => setChosen(new Map()), [JSON.stringify(asked(filter))]);
  const choose = (lines, on) => setChosen((before) => {
    const after = new Map(before);
    for (const line of lines) on ? after.set(keyOf(line), line) : after.delete(keyOf(line));
    return after;
  });
  const close = (isDone) => {
    setBulk(null);
    if (isDone) setChosen(new Map());
    // What the dialog was opened with may be gone.
    setTimeout(() => document.activeElement === document.body && title.current?.focus());
  };
  return html`
    <div class="page delegations">
      <h1 tabindex="-1" ref=${title}>Delegations</h1>
      <${Filters} live=${live} session=${session} search=${search} />
      ${listing
        ? html`<${Found} ...${{ live, listing, filter, arriving, naming, chosen, choose, setBulk }} />`
        : html`<${Loading} what="delegations" />`}
      ${bulk && html`<${Bulk} ...${{ live, session, filter, ...bulk }} onClose=${close} />`}
    </div>`;
}

function Found({ live, listing, filter, arriving, naming, chosen, choose, setBulk }) {
  const body = useRef(null);
  const [first] = listing.lines.keys();
  useHeld(body, first);
  if (listing.error && !listing.begun) return html`<${Failure} error=${listing.error} again=${() => listing.begin()} />`;
  if (!listing.begun) return html`<${Loading} what="delegations" />`;
  const lines = [...listing.lines.values()];
  return html`
    <${Tools} ...${{ listing, filter, chosen, choose, setBulk, lines }} />
    ${lines.length === 0 && !listing.sparse ? html`<${Nothing} filter=${filter} />` : html`
      <table class="table lines" aria-busy=${String(arriving)}>
        <caption class="hidden-text">Delegations, newest first</caption>
        <thead><tr>
          <th scope="col" class="pick"><${All} lines=${lines} chosen=${chosen} choose=${choose} /></th>
          <th scope="col" class="is">Status</th><th scope="col">Task</th><th scope="col" class="who">Caller → target</th>
          <th scope="col" class="why">Why, and what is next</th><th scope="col" class="age">Age</th><th scope="col" class="due">Deadline</th><th scope="col" class="tries right">Attempts</th>
        </tr></thead>
        <tbody ref=${body}>
          ${lines.map((line) => html`<${Row} key=${keyOf(line)} at=${keyOf(line)} isChosen=${chosen.has(keyOf(line))} ...${{ live, listing, naming, choose }} />`)}
        </tbody>
      </table>`}
    <${More} listing=${listing} filter=${filter} arriving=${arriving} count=${lines.length} />`;
}

/** Keeps the rows where they are on the screen when others above them come or go. */
function useHeld(body, first) {
  const before = useRef(first);
  const row = first === before.current ? null : body.current?.lastElementChild;
  const top = row?.getBoundingClientRect().top;
  useLayoutEffect(() => {
    before.current = first;
    if (row?.isConnected) scrollBy(0, row.getBoundingClientRect().top - top);
  });
}

function All({ lines, chosen, choose }) {
  const count = lines.reduce((sum, line) => sum + chosen.has(keyOf(line)), 0);
  const all = count > 0 && count === lines.length;
  return html`<input type="checkbox" aria-label="Select all shown" checked=${all} indeterminate=${count > 0 && !all} onChange=${() => choose(lines, !all)} />`;
}

/** A line that always has the same height, so that what comes and goes in it moves no row. */
function Tools({ listing, filter, chosen, choose, setBulk, lines }) {
  const open = (act, one) => () => setBulk({ act, chosen: one ? [...chosen.values()] : null });
  const { size } = chosen;
  const may = (statuses) => filter.words.length === 0 || statuses.some((status) => filter.statuses.has(status));
  const ofThese = html`
    <strong class="number">${number(size)} selected</strong>
    <button class="danger" onClick=${open("cancel", true)}>Cancel…</button><button onClick=${open("retry", true)}>Retry…</button>
    <button class="plain" onClick=${() => choose([...chosen.values()], false)}>Clear selection</button>`;
  const ofAll = lines.length > 0 && html`
    ${may(LIVE) && html`<button onClick=${open("cancel")}>Cancel all that match…</button>`}
    ${may(ENDED) && html`<button onClick=${open("retry")}>Retry all that match…</button>`}`;
  return html`
    <div class="tools" data-chosen=${String(size > 0)}>
      <div class="row">${size > 0 ? ofThese : ofAll}</div>
      <${Newer} listing=${listing} />
    </div>`;
}

function Newer({ listing }) {
  const { size } = listing.newer;
  const amount = size > NEWER_COUNTED ? `${number(NEWER_COUNTED)}+` : number(size);
  const show = async () => {
    await listing.begin();
    scrollTo({ top: 0 });
  };
  if (listing.cut) return html`<button class="newer" onClick=${show}>↑ Back to the newest${size > 0 && ` (${amount} newer)`}</button>`;
  return size > 0 && html`<button class="newer" onClick=${show}>↑ ${amount} newer</button>`;
}

function Row({ live, listing, at, naming, isChosen, choose }) {
  const [, draw] = useReducer((count) => count + 1, 0);
  useEffect(() => listing.follow(at, draw), [listing, at]);
  const line = listing.lines.get(at);
  // The same again is not drawn: of many rows only those that changed cost anything.
  return useMemo(() => line && html`<${Line} ...${{ live, line, isChosen, choose, isStray: !listing.matches(line.status) }} />`, [line, isChosen, naming]);
}

function Line({ live, line, isChosen, choose, isStray }) {
  const { why, next, at } = standing(line);
  const ended = isEnded(line.status);
  const task = line.task_preview || "(no task)";
  return html`
    <tr class=${`${isStray ? "stray" : ""} ${isChosen ? "chosen" : ""}`} data-status=${line.status} title=${isStray ? "No longer matches; gone at the next reload" : undefined}>
      <td class="pick"><input type="checkbox" aria-label=${`Select: ${cut(task, 60)}`} checked=${isChosen} onChange=${() => choose([line], !isChosen)} /></td>
      <td class="is"><${Status} status=${line.status} /></td>
      <td class="what"><a href=${address(line.caller_id, line.delegation_id)} title=${task}>${task}</a><span class="quiet mono" title=${line.delegation_id}>${short(line.delegation_id)}${line.retry_of && " · a retry"}</span></td>
      <td class="who"><span><${Name} live=${live} id=${line.caller_id} /></span><span><span class="quiet" aria-hidden="true">→ </span><span class="hidden-text">to </span><${Name} live=${live} id=${line.target_id} /></span></td>
      <td class="why"><span title=${why}>${why || "—"}</span>${next && html`<span class="quiet">${next} <${Age} at=${at} until /></span>`}</td>
      <td class="age" data-label="Age"><${Age} at=${line.created_at} /></td>
      <td class="due" data-label="Deadline">${ended ? html`<span class="quiet">—</span>` : html`<${Age} at=${line.deadline} until />`}</td>
      <td class="tries right" data-label="Attempts">${line.attempts}</td>
    </tr>`;
}

function More({ listing, filter, arriving, count }) {
  const end = useRef(null);
  const press = async () => {
    if (listing.busy) return;
    await listing.older();
    // The button is gone with the last page: the keyboard stays here.
    if (listing.next === null) end.current?.focus();
  };
  const found = filter.q && !arriving && html`<p class="quiet">Looked through ${listing.next === null ? "all" : "the newest"} ${number(listing.searched)}: ${plural(count, "match", "matches")}${listing.cut && " of them shown"}.</p>`;
  const text = listing.sparse && filter.q ? "Look further back" : "Older";
  return html`
    <div class="more">
      ${found}
      ${listing.error && html`<p class="fault" role="alert">${listing.error.message}.</p>`}
      ${listing.next !== null
        ? html`<button onClick=${press} aria-disabled=${String(listing.busy)}>${listing.busy ? "Reading…" : text}</button>`
        : count > 0 && html`<p class="quiet" tabindex="-1" ref=${end}>That is all${listing.cut ? "" : `: ${number(count)}`}.</p>`}
    </div>`;
}

const Nothing = ({ filter }) => (filter.words.length || filter.workspace || filter.q
  ? html`<${Empty} title="No delegation matches"><p>Remove a filter, or search for something shorter.</p><a class="button" href="#/delegations">Show all</a><//>`
  : html`<${Empty} title="No delegations yet"><p>Send the first one from a workspace's inbox, or over the API.</p><div class="row"><a class="button" href="#/workspaces">To the inboxes</a><a class="button" href="/docs">The API</a></div><//>`);
