// From a token to a view: signs in, follows what is live, and shows what the address names.

import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./vendor.js";
import { Canvas } from "./canvas/view.js";
import { Delegation } from "./delegation.js";
import { Delegations } from "./delegations.js";
import { Health } from "./health.js";
import { Live } from "./live.js";
import { Dialog, Failure, Guarded, Loading, useLive, useSeconds } from "./parts.js";
import { SignIn, codeHere, end, keep, kept, resume } from "./session.js";
import { span } from "./words.js";
import { Workspace, Workspaces } from "./workspace.js";

const EXPIRED = "The server does not take this token any more. Sign in again.";

/** The views: what an address behind `#` looks like, and what it shows. */
const VIEWS = [
  { path: /^\/$/, name: "canvas", title: "Canvas", view: Canvas },
  { path: /^\/delegations$/, name: "delegations", title: "Delegations", view: Delegations },
  { path: /^\/delegations\/([^/]+)\/(.+)$/, name: "delegations", title: "Delegation", view: Delegation, members: ["caller", "id"] },
  { path: /^\/workspaces$/, name: "workspaces", title: "Inboxes", view: Workspaces },
  { path: /^\/workspaces\/([^/]+)$/, name: "workspaces", title: "Inbox", view: Workspace, members: ["id"] },
  { path: /^\/health$/, name: "health", title: "Health", view: Health, admin: true },
];

const LINKS = [
  { name: "canvas", href: "#/", text: "Canvas", letter: "c" },
  { name: "delegations", href: "#/delegations", text: "Delegations", letter: "d" },
  { name: "workspaces", href: "#/workspaces", text: "Inboxes", letter: "i" },
  { name: "health", href: "#/health", text: "Health", letter: "h", admin: true },
];

/** What is written with per cent signs in an address; as it stands where these mean nothing. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the address says: the view, its members, and what stands behind `?`. */
function place() {
  const [told, search = ""] = location.hash.slice(1).split("?");
  const path = told || "/";
  for (const view of VIEWS) {
    const found = view.path.exec(path);
    if (!found) continue;
    const named = (view.members ?? []).map((member, index) => [member, decoded(found[index + 1])]);
    return { ...view, path, params: Object.fromEntries(named), search: new URLSearchParams(search) };
  }
  return { ...VIEWS[0], path, params: {}, search: new URLSearchParams() };
}

function usePlace() {
  const [where, setWhere] = useState(place);
  useEffect(() => {
    const moved = () => setWhere(place());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return where;
}

function App() {
  const [session, setSession] = useState(undefined);
  const [note, setNote] = useState("");
  const whenRefused = () => {
    end();
    setNote(EXPIRED);
    setSession(null);
  };
  const [away, setAway] = useState(null);
  const open = () => {
    setAway(null);
    resume(whenRefused).then(setSession, (error) => {
      if (error.status === undefined) return setAway(error);
      setNote(error.note ?? (error.status === 401 ? EXPIRED : `${error.message}.`));
      setSession(null);
    });
  };
  useEffect(() => {
    open();
    // A link with a code that is pasted into this tab signs in anew.
    const pasted = () => codeHere() && location.reload();
    addEventListener("hashchange", pasted);
    return () => removeEventListener("hashchange", pasted);
  }, []);
  if (away) return html`<main class="page"><${Failure} error=${away} again=${open} /></main>`;
  if (session === undefined) return html`<main class="page"><${Loading} what="the page" /></main>`;
  if (session === null) return html`<${SignIn} note=${note} whenRefused=${whenRefused} onSession=${setSession} />`;
  const leave = () => {
    end();
    setNote("");
    setSession(null);
  };
  return html`<${Shell} session=${session} leave=${leave} />`;
}

function Shell({ session, leave }) {
  const [live] = useState(() => new Live(session.workspace_id));
  const where = usePlace();
  const main = useArrival(where.path);
  const isAdmin = session.principal === "admin";
  const [help, setHelp] = useState(false);
  useEffect(() => {
    live.start();
    return () => live.stop();
  }, [live]);
  useEffect(() => {
    document.title = where.name === "canvas" ? "Baton" : `${where.title} · Baton`;
  }, [where.title]);
  useKeys({ "?": () => setHelp(true), "/": () => document.querySelector("[data-search]")?.focus() });
  const View = where.admin && !isAdmin ? Forbidden : where.view;
  const shown = LINKS.filter((link) => isAdmin || !link.admin);
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href="#/" aria-label="Baton, canvas"><img src="assets/icon.svg" alt="" width="26" height="26" /><span>Baton</span></a>
      <nav aria-label="Views">${shown.map((link) => html`<a href=${link.href} aria-current=${where.name === link.name ? "page" : undefined}>${link.text}</a>`)}</nav>
      <${Connection} live=${live} />
      <${Menu} session=${session} leave=${leave} help=${() => setHelp(true)} />
    </header>
    <main id="main" class=${`view view-${where.name}`} aria-label=${where.title} tabindex="-1" ref=${main}>
      <${Guarded} key=${where.path}>
        <${View} live=${live} session=${session} search=${where.search} ...${where.params} />
      <//>
    </main>
    ${help && html`<${Shortcuts} onClose=${() => setHelp(false)} links=${shown} />`}`;
}

/** The keyboard goes on at the title of the view that a link led to, or before it as long as there is none. */
function useArrival(path) {
  const main = useRef(null);
  const shown = useRef(path);
  useLayoutEffect(() => {
    if (shown.current === path) return;
    shown.current = path;
    const title = main.current.querySelector("h1");
    title?.setAttribute("tabindex", "-1");
    (title ?? main.current).focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [path]);
  return main;
}

const Forbidden = () => html`<div class="page"><${Failure} error=${new Error("Only the admin sees this. Sign in with the admin's token")} /></div>`;

function Connection({ live }) {
  useLive(live);
  const lost = live.connection === "lost";
  const text = { live: "Live", connecting: "Connecting…", lost: "Connection lost" }[live.connection];
  return html`
    <p class="connection" data-state=${live.connection} title=${lost ? live.fault?.message ?? "What is shown is how it stood when the connection was lost" : "Every change is shown as it is committed"}>
      <i aria-hidden="true"></i><span class="state" role="status">${text}</span>${lost && html`<${Countdown} until=${live.tryAt} />`}
    </p>`;
}

/** Not for the ear: it would be read out every second. `until` is by the browser's own clock. */
function Countdown({ until }) {
  useSeconds();
  const rest = until - Date.now();
  return html`<span class="quiet" aria-hidden="true">· retrying ${rest > 0 ? `in ${span(rest)}` : "now"}</span>`;
}

const THEMES = { auto: "As the system", light: "Light", dark: "Dark" };

function Menu({ session, leave, help }) {
  const [theme, setTheme] = useState(() => kept("localStorage", "baton.theme") ?? "auto");
  useEffect(() => {
    keep("localStorage", "baton.theme", theme);
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("themechange"));
  }, [theme]);
  const who = session.principal === "admin" ? "Admin" : session.name;
  return html`
    <details class="menu" onKeyDown=${(event) => { if (event.key === "Escape") event.currentTarget.open = false; }}>
      <summary aria-label=${`Signed in as ${who}`}><span class="who">${who}</span></summary>
      <div class="card">
        <p class="quiet small">Signed in as <strong>${who}</strong></p>
        <label for="theme">Appearance</label>
        <select id="theme" value=${theme} onChange=${(event) => setTheme(event.target.value)}>
          ${Object.entries(THEMES).map(([value, text]) => html`<option value=${value} selected=${value === theme}>${text}</option>`)}
        </select>
        <button onClick=${help}>Keyboard shortcuts</button>
        <a class="button" href="/docs">The API</a>
        <button onClick=${leave}>Sign out</button>
        <p class="quiet small">Baton ${session.version}</p>
      </div>
    </details>`;
}

/** Single keys, where no text is being written and no dialog is open. `g` and a letter goes to a view. */
function useKeys(keys) {
  useEffect(() => {
    let going = false;
    const press = (event) => {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
      const link = going && LINKS.find(({ letter }) => letter === event.key);
      going = event.key === "g";
      if (link) location.hash = link.href.slice(1);
      else if (keys[event.key]) {
        event.preventDefault();
        keys[event.key]();
      }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}

const Shortcuts = ({ onClose, links }) => html`
  <${Dialog} title="Keyboard shortcuts" onClose=${onClose}>
    <dl class="keys">
      ${links.map(({ text, letter }) => html`<dt><kbd>g</kbd> <kbd>${letter}</kbd></dt><dd>${text}</dd>`)}
      <dt><kbd>/</kbd></dt><dd>Search</dd>
      <dt><kbd>+</kbd> <kbd>−</kbd> <kbd>0</kbd></dt><dd>Canvas: zoom in, zoom out, show all</dd>
      <dt><kbd>←</kbd> <kbd>↑</kbd> <kbd>↓</kbd> <kbd>→</kbd></dt><dd>Canvas: to the next workspace in that direction</dd>
      <dt><kbd>Enter</kbd></dt><dd>Canvas: into the workspace that is chosen</dd>
      <dt><kbd>Esc</kbd></dt><dd>Close what is open</dd>
      <dt><kbd>?</kbd></dt><dd>This list</dd>
    </dl>
  <//>`;

const root = document.getElementById("page");
render(html`<${App} />`, root);
