// What several views are made of.

import { Component, html, useEffect, useLayoutEffect, useRef, useState } from "./vendor.js";
import { STATUSES, clock, cut, exact, now, plural, short, span } from "./words.js";

/** Draws anew when what is live is different, at most four times a second. */
export function useLive(live) {
  const [, draw] = useState(0);
  useEffect(() => live.watch(() => draw((count) => count + 1)), [live]);
}

let ticking = null;
const tickers = new Set();

/** Draws anew every second, for ages. */
export function useSeconds() {
  const [, draw] = useState(0);
  useEffect(() => {
    const tick = () => draw((count) => count + 1);
    tickers.add(tick);
    ticking ??= setInterval(() => !document.hidden && tickers.forEach((ticker) => ticker()), 1000);
    return () => tickers.delete(tick);
  }, []);
}

/**
 * What `load(signal)` brings: `{ data, error, loading, reload }`. It is asked again when one of `of` changes. A `reload` while
 * an answer is on its way asks once more after it, so that many of them do not keep every answer from coming.
 */
export function useLoaded(load, of) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const held = useRef({}).current;
  held.load = load;
  useEffect(() => {
    const leaving = new AbortController();
    let isReading = false;
    held.isWanted = false;
    const settle = (change) => leaving.signal.aborted || setState((before) => ({ ...before, loading: false, ...change }));
    held.read = async () => {
      held.isWanted = true;
      if (isReading) return;
      isReading = true;
      while (held.isWanted && !leaving.signal.aborted) {
        held.isWanted = false;
        settle({ loading: true });
        await held.load(leaving.signal).then((data) => settle({ data, error: null }), (error) => settle({ error }));
      }
      isReading = false;
    };
    held.read();
    return () => leaving.abort();
  }, of);
  return { ...state, reload: () => held.read() };
}

/**
 * Reads again when there is news: at most every `pause` ms after events that it `concerns`, and each `seldom` ms if that is
 * given; only while somebody can see it, and what was missed as soon as somebody does. An event is `null` where all may be
 * different.
 */
export function useNews(live, read, { concerns = () => false, pause = 1_000, seldom }) {
  const held = useRef({}).current;
  held.concerns = concerns;
  held.look = () => {
    held.isMissed = document.hidden;
    if (!held.isMissed) read();
  };
  useEffect(() => {
    const unhear = live.hear((event) => {
      if (!held.concerns(event)) return;
      held.timer ??= setTimeout(() => {
        held.timer = null;
        held.look();
      }, pause);
    });
    const shown = () => held.isMissed && held.look();
    document.addEventListener("visibilitychange", shown);
    return () => {
      unhear();
      clearTimeout(held.timer);
      held.timer = null;
      document.removeEventListener("visibilitychange", shown);
    };
  }, [live]);
  useEffect(() => {
    if (!seldom) return undefined;
    const timer = setInterval(() => held.look(), seldom);
    return () => clearInterval(timer);
  }, [seldom]);
}

export const Status = ({ status, quiet }) =>
  html`<span class="status" data-status=${status} title=${quiet ? undefined : STATUSES[status]?.means}><i aria-hidden="true"></i>${STATUSES[status]?.name ?? status}</span>`;

/** An instant in the reader's zone; the exact one on hover. */
export const Time = ({ at }) => (at ? html`<time datetime=${at} title=${exact(at)}>${clock(at)}</time>` : "—");

/** How long ago an instant is, or `until` it; or how long after it the instant `to` was. */
export function Age({ at, to, until }) {
  useSeconds();
  if (!at) return "—";
  const lasted = to && new Date(to) - new Date(at);
  if (to) return html`<time datetime=${`PT${lasted / 1000}S`} title=${`${exact(at)} – ${exact(to)}`}>${span(lasted)}</time>`;
  const distance = now() - new Date(at).getTime();
  const text = until ? (distance > 0 ? "now" : `in ${span(-distance)}`) : span(distance);
  return html`<time datetime=${at} title=${exact(at)}>${text}</time>`;
}

/** A workspace's name; its id on hover. */
export const Name = ({ live, id, link = true }) => {
  if (!id) return html`<span class="quiet">nobody</span>`;
  const name = live.name(id);
  const text = name ?? short(id);
  return link && name ? html`<a href=${`#/workspaces/${id}`} title=${id}>${text}</a>` : html`<span title=${id}>${text}</span>`;
};

/** Where a delegation is shown. */
export const address = (caller, id) => `#/delegations/${encodeURIComponent(caller)}/${encodeURIComponent(id)}`;

export const Empty = ({ title, children }) => html`<div class="empty"><p class="empty-title">${title}</p>${children}</div>`;

export const Loading = ({ what }) => html`<p class="loading" role="status"><i class="spinner" aria-hidden="true"></i>Loading ${what}…</p>`;

/** What went wrong, and a way on. */
export const Failure = ({ error, again }) => html`
  <div class="failure" role="alert">
    <p>${error.message}.</p>
    ${error.retryAfter && html`<p class="quiet">It can be tried again in ${plural(error.retryAfter, "second")}.</p>`}
    ${again && html`<button onClick=${again}>Try again</button>`}
  </div>`;

/**
 * A dialog that takes the keyboard, and gives it back. Escape closes it, and a press beside it unless something is written in
 * it; whoever opened it decides what `onClose` comes to.
 */
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  const isPressedBeside = useRef(false);
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog.showModal();
    return () => dialog.close();
  }, []);
  const isWritten = () => [...element.current.querySelectorAll("textarea, input")].some(({ value }) => value.trim() !== "");
  const press = ({ target }) => { isPressedBeside.current = target === element.current; };
  const release = ({ target }) => isPressedBeside.current && target === element.current && !isWritten() && onClose();
  // Of the key, not of the wish to close: a second wish could not be declined. What lies below is not to close with it.
  const escape = (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    onClose();
  };
  return html`
    <dialog ref=${element} aria-labelledby="dialog-title" onCancel=${(event) => { event.preventDefault(); onClose(); }} onKeyDown=${escape} onMouseDown=${press} onMouseUp=${release}>
      <div class="dialog">
        <header><h2 id="dialog-title">${title}</h2><button class="icon" aria-label="Close" onClick=${onClose}>✕</button></header>
        ${children}
      </div>
    </dialog>`;
}

/** Does what takes time: the button says so, and shows what came of it if it failed. */
export function Doing({ label, doing, act, kind, disabled }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const doingIt = useRef(false);
  const press = async () => {
    if (doingIt.current) return;
    doingIt.current = true;
    setBusy(true);
    setError(null);
    try {
      await act();
    } catch (failure) {
      setError(failure);
    }
    doingIt.current = false;
    setBusy(false);
  };
  // A button that is disabled loses the keyboard; this one only takes no second press.
  return html`<span class="doing"><button class=${kind} disabled=${disabled} aria-disabled=${busy ? "true" : undefined} onClick=${press}>${busy ? doing : label}</button>${error && html`<span class="fault" role="alert">${error.message}</span>`}</span>`;
}

/** Text of others: shown as it is, cut when it is long, whole on demand. */
export function Long({ text, limit = 4000 }) {
  const [whole, setWhole] = useState(false);
  const isCut = !whole && text.length > limit;
  return html`<pre class="text" tabindex="0" dir="auto">${isCut ? cut(text, limit) : text}</pre>
    ${isCut && html`<button onClick=${() => setWhole(true)}>Show all ${plural(text.length, "character")}</button>`}`;
}

export function Copy({ text, label }) {
  const [outcome, setOutcome] = useState(null);
  // Over plain HTTP from another machine a page may not copy.
  if (!navigator.clipboard) return null;
  const copy = async () => {
    setOutcome(await navigator.clipboard.writeText(text).then(() => "copied", () => "refused"));
    setTimeout(() => setOutcome(null), 1500);
  };
  const said = outcome === "refused" ? "The browser does not let this page copy" : label;
  return html`<button class="icon copy" aria-label=${said} title=${said} onClick=${copy}>${{ copied: "✓", refused: "✕" }[outcome] ?? "⧉"}</button>`;
}

/** Keeps a fault of one view from taking the page with it. */
export class Guarded extends Component {
  state = { error: null };
  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }
  render({ children }, { error }) {
    if (!error) return children;
    return html`<${Failure} error=${new Error(`This view broke: ${error.message}`)} again=${() => this.setState({ error: null })} />`;
  }
}
