// The canvas: workspaces by organisation, and what is under way between them.

import { ask, query } from "../api.js";
import { Compose } from "../compose.js";
import { Dialog, Empty, Failure, Loading, Name, Status, Time, Age, address, useLive, useLoaded, useNews } from "../parts.js";
import { html, useEffect, useMemo, useRef, useState } from "../vendor.js";
import { LIVE, STATUSES, isPresent, number, plural, presence, standing } from "../words.js";
import { Camera, steer } from "./camera.js";
import { Painter } from "./paint.js";
import { Scene } from "./scene.js";

/** The longest step of one frame, in seconds: who comes back to the page sees no leap. */
const LONGEST_STEP = 0.1;
/** A frame that took longer than this, in ms, is followed by a pause of twice its length, but no longer than the second. */
const DEAR_FRAME = 9;
const DEAREST_PAUSE = 120;
/** How many workspaces the list shows at once. */
const LISTED = 30;
/** How long the list keeps its order while loads change, in ms: rows that jump cannot be hit, and cost the layout. */
const KEPT_ORDER = 3_000;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const NOBODY = { id: null, byArrow: false };

export function Canvas({ live, session }) {
  useLive(live);
  const known = live.position !== null;
  const scene = useMemo(() => known && new Scene(live), [live, known]);
  const [{ id: selected, byArrow }, setSelected] = useState(NOBODY);
  const opener = useRef(null);
  const [listed, setListed] = useState(false);
  const stage = useRef(null);
  useEffect(() => {
    if (selected && live.position !== null && !live.workspaces.has(selected)) setSelected(NOBODY);
  });
  if (!known) return html`<div class="page">${live.fault ? html`<${Failure} error=${live.fault} />` : html`<${Loading} what="the canvas" />`}</div>`;
  if (live.workspaces.size === 0) return html`<div class="page"><${Nobody} /></div>`;
  const choose = (id, { reveal, byArrow: isByArrow = false } = {}) => {
    opener.current = document.activeElement;
    setSelected({ id, byArrow: isByArrow });
    if (id && reveal) stage.current?.reveal(id);
  };
  // The keyboard goes back to where it came from: a button of the list, if it is still there, or the drawing.
  const close = () => {
    const from = opener.current;
    choose(null);
    from?.focus();
    if (document.activeElement !== from || from === document.body) stage.current?.focus();
  };
  return html`
    <div class="canvas" data-listed=${listed}>
      <h1 class="hidden-text">Canvas</h1>
      <${Stage} live=${live} scene=${scene} selected=${selected} choose=${choose} handle=${stage} />
      <p class="hidden-text" role="status">${byArrow && live.name(selected)}</p>
      <${Legend} scene=${scene} live=${live} />
      <button class="list-toggle" aria-expanded=${listed} aria-controls="workspaces" onClick=${() => setListed(!listed)}>Workspaces</button>
      <${List} live=${live} scene=${scene} selected=${selected} choose=${(id) => { choose(id, { reveal: true }); setListed(false); }} />
      ${selected && live.workspaces.has(selected)
        ? html`<${Inspector} key=${selected} live=${live} scene=${scene} session=${session} id=${selected} takesFocus=${!byArrow} close=${close} />`
        : html`<${News} live=${live} scene=${scene} />`}
    </div>`;
}

const Nobody = () => html`
  <h1>Canvas</h1>
  <${Empty} title="Nobody is here yet">
    <p>Workspaces appear here as soon as they are created. With the command line:</p>
    <pre class="text">baton workspace create caller</pre>
    <p>or see <a href="/docs">the API</a>. <code>baton demo</code> shows a whole organisation at work.</p>
  <//>`;

/** The same as long as it is looked at: what changes would be read out again and again. */
const SAID = "Map of the workspaces. The arrow keys go from one to the next, Enter goes into it. The list of workspaces says the same in words.";

/** The drawing itself. It keeps up with events by itself, outside of what Preact draws. */
function Stage({ live, scene, selected, choose, handle }) {
  const element = useRef(null);
  const held = useRef({ hovered: null });
  const [tip, setTip] = useState(null);
  held.current.selected = selected;
  held.current.choose = choose;
  useEffect(() => {
    const stage = openStage(element.current, live, scene, held.current, setTip);
    handle.current = stage;
    return stage.close;
  }, [live, scene]);
  useEffect(() => handle.current.wake(), [selected]);
  return html`
    <div class="stage">
      <canvas ref=${element} tabindex="0" role="application" aria-label=${SAID}></canvas>
      ${tip && html`<div class="tip" ref=${(box) => box && Object.assign(box.style, { left: `${tip.left}px`, top: `${tip.top}px` })}>
        <strong>${tip.name}</strong><span class="quiet">${tip.text}</span></div>`}
      <div class="zoom" role="group" aria-label="View">
        <button class="icon" aria-label="Zoom in" title="Zoom in" onClick=${() => handle.current.zoom(1.35)}>+</button>
        <button class="icon" aria-label="Zoom out" title="Zoom out" onClick=${() => handle.current.zoom(1 / 1.35)}>−</button>
        <button class="icon" aria-label="Show all" title="Show all" onClick=${() => handle.current.fit()}>⤢</button>
      </div>
    </div>`;
}

function openStage(canvas, live, scene, held, setTip) {
  const camera = new Camera();
  const painter = new Painter(canvas);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  /** How to give up what is to be drawn next; none when nothing is. */
  let giveUp = null;
  let last = 0;
  const inTime = (ms, act) => {
    const timer = setTimeout(() => { giveUp = null; act(); }, ms);
    giveUp = () => clearTimeout(timer);
  };
  const draw = (now) => {
    giveUp = null;
    const begun = performance.now();
    const seconds = Math.min(LONGEST_STEP, (now - last) / 1000);
    last = now;
    if (calm.matches) scene.beads.settle();
    const flying = scene.beads.step(seconds, (bead) => painter.pulse(bead.caller, bead.status));
    const travelling = camera.step(seconds);
    const unfinished = painter.paint(scene, camera, held, seconds);
    if (flying || travelling || unfinished) after(begun);
  };
  // What a frame costs is known when it is on the screen: without a graphics processor that is more than its drawing.
  const after = (begun) => inTime(0, () => {
    const took = performance.now() - begun;
    if (took > DEAR_FRAME) inTime(Math.min(DEAREST_PAUSE, 2 * took), wake);
    else wake();
  });
  const wake = () => {
    if (giveUp) return;
    const frame = requestAnimationFrame(draw);
    giveUp = () => cancelAnimationFrame(frame);
  };
  const legend = canvas.closest(".canvas").querySelector(".legend");
  const fit = (atOnce) => { camera.fit(scene.bounds, covered(camera, canvas, legend), atOnce); wake(); };
  // What happened while nobody drew.
  scene.take(null);
  const deafen = live.hear((event, before) => {
    if (scene.take(event, before) && !camera.held) fit();
    wake();
  });
  const sized = new ResizeObserver(() => {
    painter.resize(camera);
    scene.fill(camera.width, camera.height);
    if (!camera.held) fit(true);
    wake();
  });
  sized.observe(canvas);
  // Its width changes with each digit; only another row of it covers more.
  let rows = legend.offsetHeight;
  const wrapped = new ResizeObserver(() => {
    if (legend.offsetHeight === rows) return;
    rows = legend.offsetHeight;
    if (!camera.held) fit();
  });
  wrapped.observe(legend);
  const recolour = () => { painter.recolour(); wake(); };
  dark.addEventListener("change", recolour);
  addEventListener("themechange", recolour);
  const reach = () => 8 / camera.scale;
  steer(canvas, camera, {
    pressed: (left, top) => held.choose(scene.at(...camera.toWorld(left, top), reach())?.id ?? null),
    moved: () => { setTip(null); wake(); },
    pointed: (left, top) => {
      const node = left === null ? null : scene.at(...camera.toWorld(left, top), reach());
      if ((node?.id ?? null) === held.hovered) return;
      held.hovered = node?.id ?? null;
      canvas.classList.toggle("pointed", node !== null);
      setTip(node && { left, top, name: node.workspace.name, text: inWords(node.workspace, scene.loads.get(node.id)) });
      wake();
    },
  });
  const zoom = (factor) => { camera.zoom(factor); wake(); };
  const reveal = (id) => {
    const node = scene.nodes.get(id);
    if (node) camera.reveal(node, covered(camera, canvas, legend, true));
    wake();
  };
  const into = () => canvas.closest(".canvas").querySelector(".inspector h2")?.focus();
  canvas.onkeydown = (event) => {
    const keys = { "+": () => zoom(1.35), "=": () => zoom(1.35), "-": () => zoom(1 / 1.35), 0: () => fit(), Escape: () => held.choose(null), Enter: into };
    const arrow = ARROWS[event.key];
    if (arrow) {
      const from = scene.nodes.get(held.selected);
      const next = from ? scene.next(from, ...arrow) : scene.nodes.values().next().value;
      if (next) held.choose(next.id, { reveal: true, byArrow: true });
    } else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  };
  const close = () => {
    giveUp?.();
    deafen();
    sized.disconnect();
    wrapped.disconnect();
    dark.removeEventListener("change", recolour);
    removeEventListener("themechange", recolour);
  };
  return { wake, fit, zoom, reveal, close, focus: () => canvas.focus() };
}

/** The buttons at the bottom, with some room. */
const BUTTONS = 56;

/** What lies over the drawing: the lists at its sides where there is room for them, the legend above or below, the buttons; and if so, what is said of a chosen one. */
function covered({ width, height }, canvas, legend, isChosen = false) {
  const { top: begin } = canvas.getBoundingClientRect();
  const { top, bottom } = legend.getBoundingClientRect();
  const above = bottom - begin < height / 2;
  const below = above ? BUTTONS : begin + height - top;
  const sides = width > 720
    ? { left: 248, right: isChosen ? 354 : 276, bottom: below }
    : { left: 0, right: 0, bottom: isChosen ? 0.58 * height : below };
  return { ...sides, top: above ? bottom - begin : 0 };
}

/** How a workspace stands, in words. */
function inWords(workspace, load) {
  const given = load?.total ? `, ${plural(load.total, "delegation")} given to it` : "";
  const sent = load?.sent ? `, waiting for ${number(load.sent)}` : "";
  return `${presence(workspace.status)}${given}${sent}`;
}

function Legend({ scene, live }) {
  return html`
    <ul class="legend" aria-label="Live delegations by status">
      ${LIVE.map((status) => html`
        <li key=${status}><a href=${`#/delegations?status=${status}`} data-status=${status} title=${STATUSES[status].means}>
          <i aria-hidden="true"></i>${STATUSES[status].name} <b class="number">${number(scene.counts.get(status) ?? 0)}</b></a></li>`)}
      ${live.unseen > 0 && html`<li class="quiet">and ${number(live.unseen)} older ones</li>`}
    </ul>`;
}

/** The same in words, for the keyboard and for those who do not see the drawing. */
function List({ live, scene, selected, choose }) {
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLowerCase();
  const load = (id) => scene.loads.get(id)?.total ?? 0;
  const found = useOrdered(live, wanted, load);
  return html`
    <aside class="side list" id="workspaces" aria-label="Workspaces">
      <label class="hidden-text" for="find">Find a workspace</label>
      <input id="find" type="search" data-search placeholder="Find a workspace" value=${filter} onInput=${(event) => setFilter(event.target.value)} />
      <ul>
        ${found.slice(0, LISTED).map((workspace) => html`
          <li key=${workspace.id}>
            <button aria-pressed=${workspace.id === selected} onClick=${() => choose(workspace.id)}>
              <span class="presence" data-presence=${workspace.status}><i aria-hidden="true"></i><span class="hidden-text">${presence(workspace.status)}, </span></span>
              <span class="list-name">${workspace.name}</span>
              ${load(workspace.id) > 0 && html`<span class="count number" title="given to it">${number(load(workspace.id))}<span class="hidden-text"> given to it</span></span>`}
            </button>
          </li>`)}
      </ul>
      ${found.length === 0 && html`<p class="quiet small">No workspace matches.</p>`}
      ${found.length > LISTED && html`<p class="quiet small">and ${number(found.length - LISTED)} more: type to find them</p>`}
      ${live.unlisted > 0 && html`<p class="quiet small">There is no room here for ${number(live.unlisted)} of the oldest.</p>`}
    </aside>`;
}

/** The workspaces that match, the busiest first, as they stood a moment ago. */
function useOrdered(live, wanted, load) {
  const kept = useRef({ at: 0 });
  const { size } = live.workspaces;
  if (kept.current.wanted !== wanted || kept.current.size !== size || Date.now() - kept.current.at > KEPT_ORDER) {
    const found = [...live.workspaces.values()].filter(({ name, role }) => !wanted || `${name} ${role ?? ""}`.toLowerCase().includes(wanted));
    found.sort((one, other) => load(other.id) - load(one.id) || one.name.localeCompare(other.name));
    kept.current = { at: Date.now(), wanted, size, ids: found.map(({ id }) => id) };
  }
  return kept.current.ids.map((id) => live.workspaces.get(id)).filter(Boolean);
}

function News({ live, scene }) {
  return html`
    <aside class="side news" aria-label="What happens now">
      <h2>Now</h2>
      ${scene.news.length === 0 && html`<p class="quiet small">Nothing has moved since you opened this page. Choose a workspace to see more of it.</p>`}
      <ol>
        ${scene.news.map(({ at, caller, target, id, status }) => html`
          <li key=${`${caller}${id}${status}${at}`}>
            <a href=${address(caller, id)}><${Status} status=${status} quiet /> <${Time} at=${at} /></a>
            <span class="quiet small">${live.name(caller) ?? "…"} → ${live.name(target) ?? "…"}</span>
          </li>`)}
      </ol>
    </aside>`;
}

function Inspector({ live, scene, session, id, takesFocus, close }) {
  const [composing, setComposing] = useState(false);
  const workspace = live.workspaces.get(id);
  const load = scene.loads.get(id);
  const may = session.principal === "admin" || session.workspace_id === id;
  const heading = useRef(null);
  useEffect(() => takesFocus && heading.current?.focus(), []);
  return html`
    <aside class="side inspector" aria-label=${`Workspace ${workspace.name}`} onKeyDown=${(event) => event.key === "Escape" && close()}>
      <header class="row spread"><h2 tabindex="-1" ref=${heading}>${workspace.name}</h2><button class="icon" aria-label="Close" onClick=${close}>✕</button></header>
      ${workspace.role && html`<p class="quiet">${workspace.role}</p>`}
      <dl class="facts">
        <dt>Presence</dt><dd><span class="presence" data-presence=${workspace.status}><i aria-hidden="true"></i>${presence(workspace.status)}</span>
          ${workspace.last_heartbeat_at && html`<span class="quiet small"> · heard <${Age} at=${workspace.last_heartbeat_at} /> ago</span>`}</dd>
        <dt>Work</dt><dd>${load?.total ? plural(load.total, "delegation") : "none"} given to it${workspace.max_concurrent_tasks > 1 && `, ${workspace.max_concurrent_tasks} at once`}${load?.sent ? html`<br />waiting for ${number(load.sent)} sent to others` : ""}</dd>
        ${workspace.parent_id && html`<dt>Parent</dt><dd><${Name} live=${live} id=${workspace.parent_id} /></dd>`}
        ${workspace.delivery_mode === "poll" && html`<dt>Delivery</dt><dd>fetches its own work</dd>`}
        ${workspace.current_task && html`<dt>Says</dt><dd>${workspace.current_task}</dd>`}
      </dl>
      <p class="row">
        ${may && html`<button class="primary" onClick=${() => setComposing(true)}>Delegate…</button>`}
        <a class="button" href=${`#/workspaces/${id}`}>Inbox</a>
        ${!isPresent(workspace.status) && html`<span class="quiet small">Not taking work: ${presence(workspace.status)}.</span>`}
      </p>
      <${Under} live=${live} session=${session} id=${id} />
      ${composing && html`<${Dialog} title=${`Delegate as ${workspace.name}`} onClose=${() => setComposing(false)}><${Compose} live=${live} session=${session} caller=${id} /><//>`}
    </aside>`;
}

/** What is under way at a workspace, and why it does not move. */
function Under({ live, session, id }) {
  const own = session.principal === "admin" || session.workspace_id === id;
  const load = (signal) => (own ? ask(`/canvas/delegations${query({ status: "in_flight", workspace_id: id, limit: 6 })}`, { signal }) : Promise.resolve(null));
  const { data, error, reload } = useLoaded(load, [id]);
  const concerns = (event) => !event || (event.event.startsWith("DELEGATION_") && (event.workspace_id === id || event.payload.target_id === id));
  useNews(live, reload, { concerns, pause: 3_000 });
  if (!own) return html`<p class="quiet small">Only the workspace itself and the admin can see its delegations.</p>`;
  if (error) return html`<p class="fault small">${error.message}</p>`;
  const all = `#/delegations${query({ workspace_id: id })}`;
  return html`
    <section class="under" aria-label="Under way">
      <header class="row spread"><h3>Under way</h3><a class="small" href=${all}>All of its delegations</a></header>
      ${data?.delegations.length === 0 && html`<p class="quiet small">Nothing is under way here.</p>`}
      <ul>${data?.delegations.map((line) => html`
        <li key=${line.caller_id + line.delegation_id}>
          <a href=${address(line.caller_id, line.delegation_id)}>${line.task_preview || "(no task)"}</a>
          <${Status} status=${line.status} /> <span class="quiet small">${line.caller_id === id ? html`to <${Name} live=${live} id=${line.target_id} link=${false} />` : html`from <${Name} live=${live} id=${line.caller_id} link=${false} />`}</span>
          <p class="quiet small why">${standing(line).why}</p>
        </li>`)}</ul>
    </section>`;
}
