// What is live, as the server tells it: a picture of where everything stands, and from its place on each recorded event
// once and in order. Whoever was cut off goes on from the place where it was, so that nothing is missing or shown twice.

import { Away, ask, bearer } from "./api.js";
import { isEnded } from "./words.js";

/** How long it may be cut off and still go on from its place; later a new picture costs less than all that happened. */
const RESUME_WITHIN = 60_000;
/** How many events are fetched again rather than the picture. */
const RESUME_EVENTS = 5_000;
/** The longest time between two tries, in ms. */
const LONGEST_PAUSE = 8_000;
/** How often those are told who show numbers, in ms. */
const TOLD_EVERY = 250;
/** What became of this many of the newest endings is remembered, so that word of before does not bring them back. */
const ENDED_KEPT = 4_000;

const ENDINGS = { DELEGATION_COMPLETE: "completed", DELEGATION_FAILED: "failed", DELEGATION_CANCELLED: "cancelled" };

export const key = (caller, id) => `${caller}/${id}`;

export class Live {
  /** `connecting`, `live` or `lost`; in the last case `tryAt` says when it is tried again. */
  connection = "connecting";
  tryAt = null;
  position = null;
  workspaces = new Map();
  /** Live delegations by `key`: `{ id, caller, target, status, waitingFor }`. */
  delegations = new Map();
  /** How many ended while this page looked on, by status. */
  ended = { completed: 0, failed: 0, cancelled: 0 };
  /** How many live ones there are that the picture had no room for. */
  unseen = 0;

  #own;
  #hearers = new Set();
  #watchers = new Set();
  #ended = new Set();
  #socket = null;
  #failures = 0;
  #lostAt = null;
  #timer = null;
  #telling = null;
  #naming = null;
  #stopped = false;

  /** `own` is the workspace that looks; none: the admin. */
  constructor(own) {
    this.#own = own;
  }

  async start() {
    addEventListener("online", this.#now);
    document.addEventListener("visibilitychange", this.#now);
    await this.#begin();
  }

  stop() {
    this.#stopped = true;
    removeEventListener("online", this.#now);
    document.removeEventListener("visibilitychange", this.#now);
    for (const timer of [this.#timer, this.#telling, this.#naming]) clearTimeout(timer);
    this.#socket?.close();
  }

  /** Tells of every event, as it comes: `(event, before)`, with the live delegation as it was before. Returns how to end that. */
  hear(hearer) {
    this.#hearers.add(hearer);
    return () => this.#hearers.delete(hearer);
  }

  /** Tells at most four times a second that something is different. Returns how to end that. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  name(id) {
    return this.workspaces.get(id)?.name;
  }

  /** Whether two workspaces may hand each other work: the same parent, or one above the other. */
  related(one, other) {
    const lines = [one, other].map((id) => this.#line(id));
    const parent = (id) => this.workspaces.get(id)?.parent_id ?? null;
    return lines[0].includes(other) || lines[1].includes(one) || (parent(one) !== null && parent(one) === parent(other));
  }

  #line(id) {
    const line = [];
    for (let at = id; at && line.length < 32; at = this.workspaces.get(at)?.parent_id) line.push(at);
    return line;
  }

  // Coming back early, when there is reason to hope.
  #now = () => {
    if (this.connection === "lost" && !document.hidden) this.#again(0);
  };

  async #begin() {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    try {
      const cutOff = this.#lostAt === null ? Infinity : Date.now() - this.#lostAt;
      if (this.position === null || cutOff > RESUME_WITHIN) await this.#look();
      this.#follow();
    } catch (error) {
      if (error.status === 401) return;
      this.#lose(error instanceof Away ? null : error.retryAfter);
    }
  }

  async #look() {
    const picture = await ask("/canvas");
    this.position = picture.position;
    this.workspaces = new Map(picture.workspaces.map((workspace) => [workspace.id, workspace]));
    this.delegations = new Map(picture.live.map((one) => [key(one.caller_id, one.id), {
      id: one.id, caller: one.caller_id, target: one.target_id, status: one.status, waitingFor: one.waiting_for,
    }]));
    this.unseen = Math.max(0, picture.live_total - picture.live.length);
    this.#tell();
    for (const hearer of this.#hearers) hearer(null, null);
  }

  #follow() {
    const address = new URL(`/ws?after_seq=${this.position}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, ["baton", `bearer.${base64url(bearer())}`]);
    this.#socket = socket;
    socket.onopen = () => {
      this.#failures = 0;
      this.#lostAt = null;
      this.#become("live");
    };
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => {
      if (this.#socket === socket && !this.#stopped) this.#lose(null);
    };
  }

  #lose(retryAfter) {
    this.#socket = null;
    this.#lostAt ??= Date.now();
    this.#failures += 1;
    const pause = Math.min(LONGEST_PAUSE, 250 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    this.#again(retryAfter ? retryAfter * 1000 : pause);
  }

  #again(pause) {
    clearTimeout(this.#timer);
    this.tryAt = Date.now() + pause;
    this.#become("lost");
    this.#timer = setTimeout(() => this.#tryAgain(), pause);
  }

  // Whether the token still holds, and whether too much happened meanwhile, is known only by asking: a socket says neither.
  async #tryAgain() {
    if (this.position !== null) {
      try {
        const { position } = await ask("/session");
        if (position - this.position > RESUME_EVENTS) this.#lostAt = 0;
      } catch (error) {
        if (error.status === 401) return;
        this.#lose(error.retryAfter);
        return;
      }
    }
    await this.#begin();
  }

  #become(connection) {
    this.connection = connection;
    this.#tell();
  }

  #take(event) {
    if (event.seq !== undefined) {
      if (event.seq <= this.position) return;
      this.position = event.seq;
    }
    if (!this.#concerns(event)) return;
    const before = this.#apply(event);
    for (const hearer of this.#hearers) hearer(event, before);
    this.#tell();
  }

  // A workspace's socket also tells of what its kin hand to each other, which its picture leaves out.
  #concerns({ event, workspace_id: caller, payload }) {
    if (!this.#own || !event.startsWith("DELEGATION_") || caller === this.#own) return true;
    return (payload.target_id ?? this.delegations.get(key(caller, payload.delegation_id))?.target) === this.#own;
  }

  #apply({ event, workspace_id: caller, payload }) {
    if (event.startsWith("DELEGATION_")) return this.#move(event, caller, payload);
    const workspace = this.workspaces.get(caller);
    switch (event) {
      case "WORKSPACE_HEARTBEAT":
        if (workspace) Object.assign(workspace, { last_heartbeat_at: new Date().toISOString(), active_tasks: payload.active_tasks });
        break;
      case "TASK_UPDATED":
        if (workspace) workspace.current_task = payload.current_task;
        break;
      case "WORKSPACE_REMOVED":
        this.workspaces.delete(caller);
        break;
      case "WORKSPACE_ONLINE":
      case "WORKSPACE_OFFLINE":
      case "WORKSPACE_DEGRADED":
      case "WORKSPACE_AWAITING_AGENT":
        if (workspace) workspace.status = event.slice("WORKSPACE_".length).toLowerCase();
        else this.#learnNames();
        break;
      case "WORKSPACE_PROVISIONING":
        this.#learnNames();
        break;
    }
    return null;
  }

  // The picture may be newer than the events that follow it: what they say of a delegation comes to the same in the end.
  #move(event, caller, payload) {
    const at = key(caller, payload.delegation_id);
    const before = this.delegations.get(at) ?? null;
    const ending = ENDINGS[event];
    if (ending) {
      if (this.delegations.delete(at)) this.ended[ending] += 1;
      this.#ended.add(at);
      if (this.#ended.size > ENDED_KEPT) this.#ended.delete(this.#ended.values().next().value);
      return before;
    }
    const status = event === "DELEGATION_SENT" ? "pending" : payload.status;
    if (isEnded(status) || this.#ended.has(at) || (event === "DELEGATION_SENT" && before)) return before;
    if (!this.workspaces.has(payload.target_id)) this.#learnNames();
    this.delegations.set(at, { id: payload.delegation_id, caller, target: payload.target_id, status, waitingFor: payload.waiting_for });
    return before;
  }

  // Events tell that a workspace is new, not all that it is. Of this look only the workspaces are taken: what lives is
  // known from the events, and a picture of before would set it back.
  #learnNames() {
    this.#naming ??= setTimeout(async () => {
      this.#naming = null;
      try {
        const { workspaces } = await ask("/canvas?live=0");
        this.workspaces = new Map(workspaces.map((workspace) => [workspace.id, workspace]));
        for (const hearer of this.#hearers) hearer(null, null);
        this.#tell();
      } catch {
        // The next unknown name asks again.
      }
    }, 400);
  }

  #tell() {
    this.#telling ??= setTimeout(() => {
      this.#telling = null;
      for (const watcher of this.#watchers) watcher();
    }, TOLD_EVERY);
  }
}

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
