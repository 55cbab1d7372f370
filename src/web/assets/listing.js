// The model of the list of delegations: pages of it, and what became of its rows since they were read.

import { ask, query } from "./api.js";
import { key } from "./live.js";
import { ENDED, LIVE, isEnded } from "./words.js";

const PAGE = 50;
/** No more rows than this are held: further ones push out the newest. */
const KEPT = 500;
/** How many rows are read again with one request, and how long after the one before, in ms. */
const READ_AGAIN = 200;
const READ_PAUSE = 2_000;
/** Beyond this, how many are newer is not counted. */
export const NEWER_COUNTED = 999;

const GROUPS = { in_flight: LIVE, ended: ENDED };

/** Which delegations: from what stands behind `?` in the address. */
export function wanted(search) {
  const words = (search.get("status") ?? "").split(",").filter(Boolean);
  return { words, statuses: new Set(words.flatMap((word) => GROUPS[word] ?? [word])), workspace: search.get("workspace_id") ?? "", q: search.get("q") ?? "" };
}

/** The same for the server. */
export const asked = ({ words, workspace, q }) => ({ status: words.join(","), workspace_id: workspace, q });

export const keyOf = (line) => key(line.caller_id, line.delegation_id);

export class Listing {
  /** Lines by `key`, newest first. */
  lines = new Map();
  /** Where the next page begins; `null` at the end. */
  next = null;
  /** How many delegations were looked at for these. */
  searched = 0;
  /** Whether the last page is not full although there is more to look through. */
  sparse = false;
  /** Whether newer rows had to make room. */
  cut = false;
  /** The keys of those that came to match since. */
  newer = new Set();
  error = null;
  busy = false;
  begun = false;

  #live;
  #wanted;
  #draw;
  #drawers = new Map();
  /** What events said of rows since these were read. */
  #changed = new Map();
  /** What events said of others while a page was on its way: it may hold them, as they were before. */
  #meanwhile = new Map();
  #picture;
  #timer = null;
  #drawing = null;
  #leaving = new AbortController();
  #unhear;

  constructor(live, wanted, draw) {
    this.#live = live;
    this.#wanted = wanted;
    this.#draw = draw;
    this.#picture = live.delegations;
    this.#unhear = live.hear((event, before) => this.#hear(event, before));
    document.addEventListener("visibilitychange", this.#readSoon);
  }

  stop() {
    this.#leaving.abort();
    this.#unhear();
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#readSoon);
  }

  /** The newest page, in place of all that is here. */
  begin() {
    // What comes to match while the page is on its way is not on it.
    const noted = [...this.newer];
    return this.#page(null, (page) => {
      this.lines = new Map();
      this.cut = false;
      this.searched = 0;
      for (const at of noted) this.newer.delete(at);
      this.#append(page);
    });
  }

  /** The page behind the last one. */
  older() {
    return this.#page(this.next, (page) => this.#append(page));
  }

  /** Calls back when the line of `at` is another. Returns how to end that. */
  follow(at, drawer) {
    this.#drawers.set(at, drawer);
    return () => this.#drawers.get(at) === drawer && this.#drawers.delete(at);
  }

  matches(status) {
    return this.#wanted.words.length === 0 || this.#wanted.statuses.has(status);
  }

  async #page(before, take) {
    if (this.busy) return;
    this.busy = true;
    this.error = null;
    this.#meanwhile.clear();
    this.#draw();
    try {
      take(await this.#read(before));
      this.begun = true;
    } catch (error) {
      if (error.name === "AbortError") return;
      this.error = error;
    }
    this.busy = false;
    this.#draw();
  }

  #read(before) {
    return ask(`/canvas/delegations${query({ ...asked(this.#wanted), before, limit: PAGE })}`, { signal: this.#leaving.signal });
  }

  #append({ delegations, next, searched }) {
    for (const line of delegations) {
      const at = keyOf(line);
      this.lines.set(at, line);
      this.newer.delete(at);
      this.#patch(at, line, this.#meanwhile.get(at));
    }
    this.next = next ?? null;
    this.sparse = this.next !== null && delegations.length < PAGE;
    this.searched += searched ?? 0;
    for (const at of this.lines.keys()) {
      if (this.lines.size <= KEPT) break;
      this.lines.delete(at);
      this.cut = true;
    }
  }

  #hear(event, before) {
    if (!event) return this.#look();
    if (!event.event.startsWith("DELEGATION_")) return;
    const at = key(event.workspace_id, event.payload.delegation_id);
    const line = this.lines.get(at);
    if (line) return this.#patch(at, line, told(event));
    this.#count(at, event, before);
    if (this.busy) this.#meanwhile.set(at, told(event));
  }

  // Word from before the line was read may still come: it does not take an ending back.
  #patch(at, line, patch) {
    if (!patch || (isEnded(line.status) && !isEnded(patch.status))) return;
    this.#changed.set(at, patch);
    this.lines.set(at, { ...line, ...patch });
    this.#drawers.get(at)?.();
    this.#readSoon();
  }

  // Counted are those that came to match: a new one, or one whose status was another.
  #count(at, event, before) {
    const status = told(event)?.status ?? "pending";
    const isNew = event.event === "DELEGATION_SENT";
    if (!this.matches(status)) {
      if (this.newer.delete(at)) this.#draw();
      return;
    }
    if ((!isNew && (!before || this.matches(before.status))) || this.newer.size > NEWER_COUNTED) return;
    if (this.newer.has(at) || !this.#concerns(event, before)) return;
    this.newer.add(at);
    this.#drawSoon();
  }

  #concerns({ workspace_id: caller, payload }, before) {
    const { workspace, q } = this.#wanted;
    if (workspace && workspace !== caller && workspace !== (payload.target_id ?? before?.target)) return false;
    const said = [payload.delegation_id, payload.task_preview, payload.response_preview, payload.error, payload.error_class];
    return !q || said.some((text) => text?.toLowerCase().includes(q.toLowerCase()));
  }

  // With a new picture it is not known what happened meanwhile: every row is read again, and the newest page is looked at.
  async #look() {
    if (this.#live.delegations === this.#picture || !this.begun) return;
    this.#picture = this.#live.delegations;
    for (const at of this.lines.keys()) this.#changed.set(at, {});
    this.#readSoon();
    try {
      const { delegations } = await this.#read(null);
      const [newest] = this.lines.values();
      const found = delegations.filter((line) => !this.lines.has(keyOf(line)) && !(newest && line.created_at < newest.created_at));
      if (!this.cut) for (const line of found) this.newer.add(keyOf(line));
      this.#draw();
    } catch {
      // The next picture tells it, or the reader asks.
    }
  }

  #drawSoon() {
    this.#drawing ??= setTimeout(() => {
      this.#drawing = null;
      if (!this.#leaving.signal.aborted) this.#draw();
    }, 250);
  }

  #readSoon = () => {
    if (document.hidden || this.#changed.size === 0 || this.#leaving.signal.aborted) return;
    this.#timer ??= setTimeout(() => this.#readAgain(), READ_PAUSE);
  };

  // What events do not tell: the next attempt, how many there were. What is told while the answer is on its way is newer.
  async #readAgain() {
    const reading = [...this.#changed.keys()].filter((at) => this.lines.has(at)).slice(0, READ_AGAIN);
    for (const at of reading) this.#changed.delete(at);
    try {
      if (reading.length === 0) return this.#changed.clear();
      const ids = reading.map((at) => this.lines.get(at)).map(({ caller_id, delegation_id }) => ({ caller_id, delegation_id }));
      const { delegations } = await ask("/canvas/delegations/lines", { body: { ids }, signal: this.#leaving.signal });
      for (const line of delegations) this.#renew(line);
    } catch {
      // The rows keep what the events said until they are read after all.
      for (const at of reading) if (!this.#changed.has(at)) this.#changed.set(at, {});
    } finally {
      this.#timer = null;
      this.#readSoon();
    }
  }

  #renew(line) {
    const at = keyOf(line);
    if (!this.lines.has(at)) return;
    this.lines.set(at, { ...line, ...this.#changed.get(at) });
    this.#drawers.get(at)?.();
  }
}

const OUTCOMES = {
  DELEGATION_COMPLETE: ({ response_preview }) => ({ status: "completed", result_preview: response_preview }),
  DELEGATION_FAILED: ({ error, error_class }) => ({ status: "failed", error, error_class }),
  DELEGATION_CANCELLED: ({ reason }) => ({ status: "cancelled", error: reason }),
};

/** What an event says of a line. */
function told({ event, payload, timestamp }) {
  const now = { updated_at: timestamp, waiting_for: undefined, next_attempt_at: undefined, question: undefined };
  if (OUTCOMES[event]) return { ...now, ...OUTCOMES[event](payload), ended_at: timestamp };
  if (event !== "DELEGATION_STATUS") return null;
  const { status, waiting_for, question, message, percent } = payload;
  const progress = message !== undefined || percent !== undefined ? { message, percent } : undefined;
  return { ...now, status, waiting_for, question, progress };
}
