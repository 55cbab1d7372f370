// How the server is, and how its last hour was: figures, charts, the lines before targets, nodes, and Baton's own loops.

import { ask, query } from "./api.js";
import { Chart, extent } from "./charts.js";
import { Age, Dialog, Doing, Empty, Failure, Loading, Name, Time, address, useLoaded, useNews, useSeconds } from "./parts.js";
import { html, useEffect, useRef, useState } from "./vendor.js";
import { FAILURES, LIVE, STATUSES, WAITS, number, plural, span } from "./words.js";

/** How often it is asked, in ms. */
const EVERY = 10_000;
/** How many samples are kept: an hour of them. */
const KEPT = 360;

export function Health({ live }) {
  const { told, error, again } = useHealth(live);
  if (!told && error) return html`<div class="page"><${Failure} error=${error} again=${again} /></div>`;
  if (!told) return html`<div class="page"><${Loading} what="the last hour" /></div>`;
  return html`
    <div class="page health">
      <header class="row spread">
        <h1>Health</h1>
        <${Collected} told=${told} />
      </header>
      ${error && html`<p class="fault" role="alert">What is shown is how it was at <${Time} at=${told.now} />: ${error.message}. Retrying every 10 s.</p>`}
      <${Figures} told=${told} />
      <${Charts} told=${told} />
      <${Lines} live=${live} lines=${told.lines} again=${again} />
      <div class="health-pair">
        <${Nodes} nodes=${told.nodes} />
        <${Loops} liveness=${told.liveness} />
      </div>
    </div>`;
}

/** The newest answer with all samples of an hour; asked every ten seconds while somebody can see it. */
function useHealth(live) {
  const kept = useRef(null);
  const look = async (signal) => {
    kept.current = await next(kept.current, signal);
    return kept.current;
  };
  const { data, error, reload } = useLoaded(look, []);
  useNews(live, reload, { seldom: EVERY });
  return { told: data, error, again: reload };
}

async function next(before, signal) {
  const told = await ask(`/canvas/health${query({ after: before?.samples.at.at(-1) })}`, { signal });
  if (!before || before.started_at === told.started_at) {
    told.samples = joined(before?.samples, told.samples);
    return told;
  }
  // Another process: its history is not that of the one before.
  return next(null, signal);
}

/** Two tables of columns behind each other. What one does not have was nothing there. */
function joined(before, after) {
  if (!before) return after;
  const [lengthBefore, lengthAfter] = [before.at.length, after.at.length];
  const together = (one = Array(lengthBefore).fill(0), other = Array(lengthAfter).fill(0)) => [...one, ...other].slice(-KEPT);
  const all = (one, other) => Object.fromEntries(
    [...new Set([...Object.keys(one), ...Object.keys(other)])].map((name) =>
      [name, isColumn(one[name] ?? other[name]) ? together(one[name], other[name]) : all(one[name] ?? {}, other[name] ?? {})]),
  );
  return all(before, after);
}

const isColumn = Array.isArray;

/** Since when there are figures, as long as it is not the whole hour. */
function Collected({ told }) {
  const { at } = told.samples;
  if (at.length >= KEPT) return html`<p class="quiet small">The last hour of node <span class="mono">${told.node}</span></p>`;
  return html`<p class="quiet small">Node <span class="mono">${told.node}</span> has collected since <${Time} at=${told.started_at} />; an hour is kept.</p>`;
}

/* Figures */

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const rate = (value) => `${value >= 100 ? number(Math.round(value)) : Number(value.toFixed(1))}/s`;
const count = (value) => number(Math.round(value));

/** Milliseconds, as exact as they are of interest. */
function duration(milliseconds) {
  if (milliseconds < 10) return `${Number(milliseconds.toPrecision(2))} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return milliseconds < 60_000 ? `${Number((milliseconds / 1000).toPrecision(3))} s` : span(milliseconds);
}

function Figures({ told }) {
  const { samples, step_ms: step } = told;
  const now = (name) => samples[name].at(-1) ?? 0;
  const [completed, failed] = [total(samples.completed), total(samples.failed)];
  const slowest = samples.accept_p99.findLast((value) => value !== null);
  return html`
    <ul class="figures">
      <${Figure} name="Accepted now" value=${rate((now("accepted") * 1000) / step)} note=${`${rate((now("completed") * 1000) / step)} completed`} />
      <${Figure} name="Acceptance, p99" value=${slowest === undefined ? "—" : duration(slowest)} note="durable, then answered" />
      <${Figure} name="Live" value=${count(now("live"))} note=${plural(total(samples.accepted), "accepted", "accepted")} />
      <${Figure} name="Success" value=${completed + failed ? share(completed, completed + failed) : "—"} note=${completed + failed ? `${count(failed)} of ${count(completed + failed)} failed` : "none ended yet"} />
      <${Invariants} told=${told.invariants} />
    </ul>`;
}

const Figure = ({ name, value, note, children }) => html`
  <li class="card figure"><span class="small quiet">${name}</span><strong class="number">${value}</strong><span class="small quiet">${children ?? note}</span></li>`;

/** A share in per cent that is 100 only when it is all of it. */
function share(part, whole) {
  const percent = (part / whole) * 100;
  return `${part === whole ? 100 : Math.min(99.9, percent).toFixed(1)}%`;
}

function Invariants({ told }) {
  const [open, setOpen] = useState(false);
  const sound = told && told.violations === 0;
  const words = told ? plural(told.violations, "violation") : "not checked";
  return html`
    <li class="card figure">
      <span class="small quiet">Invariants</span>
      <strong class="badge" data-good=${told ? sound : undefined}>${sound ? "✓ " : ""}${words}</strong>
      <span class="small quiet">${told ? html`newest ${count(told.checked)}, <${Age} at=${told.at} /> ago · ` : "the database does not answer · "}<button class="plain small" onClick=${() => setOpen(true)}>${sound || !told ? "Check all" : "Show them"}</button></span>
      ${open && html`<${Audit} onClose=${() => setOpen(false)} />`}
    </li>`;
}

/** The rules, held against all that is stored, as many at a time as the server checks with one call. */
function Audit({ onClose }) {
  const [after, setAfter] = useState(null);
  const { data, error, loading, reload } = useLoaded((signal) => ask(`/admin/invariants${query({ after })}`, { signal }), [after]);
  return html`
    <${Dialog} title="Invariants" onClose=${onClose}>
      <p class="quiet small">What Baton promises of every delegation: one ending, one result row, its reply, and an end to every wait.</p>
      ${loading && html`<p class="loading" role="status"><i class="spinner" aria-hidden="true"></i>Checking up to 100,000 delegations…</p>`}
      ${!loading && error && html`<${Failure} error=${error} again=${reload} />`}
      ${!loading && data && html`<${Violations} found=${data} />`}
      ${!loading && data?.next != null && html`<div><button onClick=${() => setAfter(data.next)}>Check the next ones</button></div>`}
    <//>`;
}

function Violations({ found }) {
  const { violations, checked } = found;
  if (violations.length === 0) return html`<p role="status"><strong class="badge" data-good>✓ 0 violations</strong> in ${plural(checked, "delegation")}.</p>`;
  return html`
    <p role="status"><strong class="badge" data-good=${false}>${plural(violations.length, "violation")}</strong> in ${plural(checked, "delegation")}.</p>
    <ul class="violations">
      ${violations.map((one) => html`
        <li>
          <a class="mono" href=${address(one.caller_id, one.delegation_id)}>${one.delegation_id}</a>
          <span>${one.rule}</span><span class="quiet small">found: ${String(one.found)}</span>
        </li>`)}
    </ul>`;
}

/* Charts */

function Charts({ told }) {
  const { samples, step_ms: step } = told;
  const { at } = samples;
  const note = at.length < KEPT && at.length ? html`since <${Time} at=${new Date(at[0]).toISOString()} />` : "last hour";
  const plain = (name, colour, column, dashed) => ({ name, colour, dashed, values: samples[column] });
  const perSecond = (name, colour, column) => ({ name, colour, values: samples[column].map((value) => (value * 1000) / step) });
  const half = (column, colour, name = "p50") => plain(name, colour, `${column}_p50`, true);
  const most = (column, colour, name = "p99") => plain(name, colour, `${column}_p99`);
  if (at.length === 0) return html`<div class="card"><${Empty} title="No figures yet"><p>The first samples appear ${span(step)} after start.</p><//></div>`;
  const chart = (title, lines, format, more) => html`<${Chart} key=${title} title=${title} note=${note} at=${at} lines=${lines} format=${format} ...${more} />`;
  return html`
    <section class="charts" aria-labelledby="charts">
      <h2 id="charts" class="hidden-text">The last hour</h2>
      ${chart("Throughput", [perSecond("accepted", "--accent", "accepted"), perSecond("completed", "--completed", "completed"), perSecond("failed", "--failed", "failed"), perSecond("cancelled", "--cancelled", "cancelled")], rate)}
      ${chart("Live, by status", statuses(samples), count, { stacked: true, whole: true })}
      ${chart("Failures, by class", classes(samples), count, { stacked: true, whole: true })}
      ${chart("Acceptance", [half("accept", "--accent"), most("accept", "--accent")], duration)}
      ${chart("Commit", [half("commit", "--received"), most("commit", "--received")], duration)}
      ${chart("Call to a target", [half("call", "--in_progress"), most("call", "--in_progress")], duration, { log: true })}
      ${chart("From acceptance to the ending", [half("lasting", "--completed"), most("lasting", "--completed")], duration, { log: true })}
      ${chart("Write queue and shed requests", [plain("writes waiting", "--queued", "write_queue"), plain("requests shed", "--failed", "shed")], count, { whole: true })}
      ${chart("Calls in flight", [plain("calls", "--dispatched", "calls")], count, { whole: true })}
    </section>
    <${Classes} samples=${samples} />`;
}

const occurs = ({ values }) => values.some((value) => value > 0);

/** Those that were there, the last of the life at the bottom. */
function statuses({ statuses: columns, live }) {
  const lines = LIVE.map((status) => ({ name: STATUSES[status].name, colour: `--${status}`, values: columns[status] ?? [] })).filter(occurs);
  return lines.length ? lines.reverse() : [{ name: "Live", colour: "--quiet", values: live }];
}

/** A class has the same colour as long as it is shown, and in every look. There are eight: the second eight classes are dashed. */
const shade = (name) => `--shade-${(Object.keys(FAILURES).indexOf(name) + 8) % 8}`;
const isSecond = (name) => Object.keys(FAILURES).indexOf(name) >= 8;

function classes({ classes: columns, failed }) {
  const lines = Object.entries(columns).map(([name, values]) => ({ name, colour: shade(name), dashed: isSecond(name), values })).filter(occurs);
  return lines.length ? lines : [{ name: "none", colour: "--quiet", values: failed }];
}

/** Why delegations failed in the hour, in words. */
function Classes({ samples }) {
  const failed = total(samples.failed);
  const rows = Object.entries(samples.classes).map(([name, values]) => [name, total(values), extent(values).last]).filter(([, all]) => all > 0);
  if (rows.length === 0) return null;
  rows.sort(([, one], [, other]) => other - one);
  return html`
    <section class="card">
      <h2>Why delegations failed</h2>
      <div class="scroll"><table class="table cards compact">
        <caption class="hidden-text">Failures of the last hour by class</caption>
        <thead><tr><th scope="col">Class</th><th scope="col">What it says</th><th scope="col" class="right">In the hour</th><th scope="col" class="right">Share</th></tr></thead>
        <tbody>${rows.map(([name, all]) => html`<tr key=${name}>
          <th scope="row" class="mono"><i class=${`swatch${isSecond(name) ? " second" : ""}`} aria-hidden="true" style=${{ "--of": `var(${shade(name)})` }}></i>${name}</th>
          <td>${FAILURES[name] ?? ""}</td><td data-label="In the hour" class="right">${count(all)}</td><td data-label="Share" class="right">${share(all, failed)}</td>
        </tr>`)}</tbody>
      </table></div>
    </section>`;
}

/* Lines before targets */

const BREAKERS = {
  closed: { word: "Takes calls", good: true },
  half_open: { word: "Probing with one call", good: undefined },
  open: { word: "Probed only", good: false },
};

function Lines({ live, lines, again }) {
  useNames(live);
  return html`
    <section class="card">
      <h2>Queues for targets</h2>
      ${lines.length === 0
    ? html`<p class="quiet">Nothing waits for a target on this node, and every target can be called.</p>`
    : html`<div class="scroll"><table class="table cards">
        <caption class="hidden-text">Targets that delegations wait for, or that cannot be called, the longest queue first</caption>
        <thead><tr><th scope="col">Target</th><th scope="col">State</th><th scope="col" class="right">Waiting</th><th scope="col" class="right">Working</th><th scope="col">Next try</th><th scope="col"><span class="hidden-text">What to do</span></th></tr></thead>
        <tbody>${lines.map((line) => html`<${Line} key=${line.workspace_id} live=${live} line=${line} again=${again} />`)}</tbody>
      </table></div>`}
    </section>`;
}

/** Draws anew when names become known: the figures may be here before the workspaces are. */
function useNames(live) {
  const [, setCount] = useState(live.workspaces.size);
  useEffect(() => live.watch(() => setCount(live.workspaces.size)), [live]);
}

function Line({ live, line, again }) {
  const [tried, setTried] = useState(false);
  const { word, good } = BREAKERS[line.breaker] ?? { word: line.breaker };
  const reset = async () => {
    setTried(false);
    await ask(`/admin/breakers/${encodeURIComponent(line.workspace_id)}/reset`, { body: {} });
    setTried(true);
    again();
  };
  return html`
    <tr>
      <th scope="row"><${Name} live=${live} id=${line.workspace_id} /></th>
      <td data-label="State"><span class="badge" data-good=${good}>${word}</span>${line.waiting_for && html` <span>${WAITS[line.waiting_for]?.[0] ?? line.waiting_for}</span>`}
        ${line.failing_since && html`<br /><span class="quiet small">${plural(line.failures, "failure")} in a row, since <${Time} at=${line.failing_since} /></span>`}</td>
      <td data-label="Waiting" class="right">${number(line.waiting)}</td>
      <td data-label="Working" class="right">${number(line.working)}${line.limit > 0 && html`<span class="quiet"> of ${number(line.limit)}</span>`}</td>
      <td data-label="Next try">${line.next_attempt_at ? html`<${Age} at=${line.next_attempt_at} until />` : html`<span class="quiet">when there is room</span>`}</td>
      <td class="right"><${Doing} label="Try now" doing="Trying…" act=${reset} /><span class="small quiet" role="status">${tried && " Breaker reset; calling now."}</span></td>
    </tr>`;
}

/* Nodes and loops */

function Nodes({ nodes }) {
  return html`
    <section class="card">
      <h2>Nodes</h2>
      ${!nodes ? html`<p class="quiet">The database does not answer now.</p>` : html`
      <div class="scroll"><table class="table cards">
        <caption class="hidden-text">Nodes that share the database</caption>
        <thead><tr><th scope="col">Node</th><th scope="col">Holder</th><th scope="col">State</th></tr></thead>
        <tbody>${nodes.map((node) => html`<tr key=${node.id}>
          <th scope="row" class="mono">${node.id}${node.self && html` <span class="badge">this one</span>`}</th>
          <td data-label="Holder" class="wrap"><span class="mono quiet">${node.holder}</span></td>
          <td data-label="State"><span class="badge" data-good=${!node.expired}>${node.expired ? "lease expired" : "holds its lease"}</span>${node.expired && html`<br /><span class="quiet small">others take over what it had</span>`}</td>
        </tr>`)}</tbody>
      </table></div>`}
    </section>`;
}

/** Baton's loops: what each does, and how long it usually rests, in seconds. */
const LOOPS = {
  takeover: ["takes over what other nodes left", 1],
  sweep: ["looks for what nobody is in charge of", 300],
  outbox: ["tells receivers of endings", 300],
  owed_replies: ["writes replies that are owed", 300],
  token_uses: ["notes when tokens were used", 30],
  retention: ["prunes what is old", 6 * 3600],
  history: ["takes the samples above", 10],
};
/** One that rested this many times as long is late. */
const LATE = 3;

function Loops({ liveness }) {
  useSeconds();
  const loops = Object.entries(liveness.subsystems).sort(([one], [other]) => one.localeCompare(other));
  return html`
    <section class="card">
      <h2>Baton's own loops</h2>
      <div class="scroll"><table class="table">
        <caption class="hidden-text">Background loops of this node</caption>
        <thead><tr><th scope="col">Loop</th><th scope="col">Last ran</th><th scope="col">State</th></tr></thead>
        <tbody>${loops.map(([name, { last_tick_at: at, seconds_ago: ago }]) => {
    const [does, rest] = LOOPS[name] ?? ["", Infinity];
    const late = ago > LATE * rest + 5;
    return html`<tr key=${name}>
          <th scope="row"><span class="mono">${name}</span>${does && html`<br /><span class="quiet small">${does}</span>`}</th>
          <td><${Age} at=${at} /> ago</td>
          <td><span class="badge" data-good=${!late}>${late ? "late" : "runs"}</span>${late && html` <span class="quiet small">usually every ${span(rest * 1000)}</span>`}</td>
        </tr>`;
  })}</tbody>
      </table></div>
    </section>`;
}
