// What is live, as the server tells it.

import { ask } from "./api.js";
import { Connection } from "./connection.js";
import { ENDINGS, isEnded, setSkew } from "./words.js";

/** How soon those are told who show numbers, in ms: later where more events come meanwhile than anybody can follow. */
const TOLD_AFTER = { few: 250, many: 700 };
const MANY = 50;
/** How soon unknown names are asked for, in ms: those of many at once. */
const NAMES_AFTER = 400;
/** What became of this many of the newest endings is remembered, so that word of before does not bring them back. */
const ENDED_KEPT = 4_000;
/** This many ids are remembered that no workspace has, so that they are not asked for again. */
const NAMELESS_KEPT = 1_000;

const PRESENCE = new Set(["WORKSPACE_ONLINE", "WORKSPACE_OFFLINE", "WORKSPACE_DEGRADED", "WORKSPACE_AWAITING_AGENT"]);

export const key = (caller, id) => `${caller}/${id}`;

export class Live {
  workspaces = new Map();
  /** Live delegations by `key`: `{ id, caller, target, status }`. */
  delegations = new Map();
  /** How many live ones there are that the picture had no room for. */
  unseen = 0;
  /** The same of workspaces. */
  unlisted = 0;

  #own;
  #hearers = new Set();
  #watchers = new Set();
  #ended = new Set();
  #nameless = new Set();
  #telling = null;
  /** How many events came since they were told the last time, and how soon they are told the next time. */
  #untold = 0;
  #toldAfter = TOLD_AFTER.few;
  #naming = null;
  #line = new Connection({
    picture: (picture) => this.#look(picture),
    event: (event) => this.#take(event),
    change: () => this.#tell(),
  });

  /** `own` is the workspace that looks; none: the admin. */
  constructor(own) {
    this.#own = own;
  }

  get connection() {
    return this.#line.state;
  }

  get tryAt() {
    return this.#line.tryAt;
  }

  /** What the server said when it refused the picture. */
  get fault() {
    return this.#line.fault;
  }

  get position() {
    return this.#line.position;
  }

  start() {
    return this.#line.start();
  }

  stop() {
    this.#line.stop();
    clearTimeout(this.#telling);
    clearTimeout(this.#naming);
  }

  /**
   * Tells of every event, as it comes: `(event, before)`, with the live delegation as it was before; `(null, null)` is a new
   * picture. Returns how to end that.
   */
  hear(hearer) {
    this.#hearers.add(hearer);
    return () => this.#hearers.delete(hearer);
  }

  /** Tells a few times a second at most that something is different. Returns how to end that. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  name(id) {
    return this.workspaces.get(id)?.name;
  }

  /** Whether two workspaces may hand each other work: the same parent, or one above the other. */
  related(one, other) {
    const lines = [one, other].map((id) => this.#above(id));
    const parent = (id) => this.workspaces.get(id)?.parent_id ?? null;
    return lines[0].includes(other) || lines[1].includes(one) || (parent(one) !== null && parent(one) === parent(other));
  }

  #above(id) {
    const line = [];
    for (let at = id; at && line.length < 32; at = this.workspaces.get(at)?.parent_id) line.push(at);
    return line;
  }

  #look(picture) {
    setSkew(picture.now);
    this.#learn(picture);
    this.delegations = new Map(picture.live.map((one) => [key(one.caller_id, one.id), {
      id: one.id, caller: one.caller_id, target: one.target_id, status: one.status,
    }]));
    this.unseen = Math.max(0, picture.live_total - picture.live.length);
    this.#tellHearers(null, null);
    this.#tell();
  }

  #take(event) {
    if (!this.#concerns(event)) return;
    this.#tellHearers(event, this.#apply(event));
    this.#untold += 1;
    this.#tell();
  }

  // A workspace's socket also tells of what its kin hand to each other, which its picture leaves out.
  #concerns({ event, workspace_id: caller, payload }) {
    if (!this.#own || !event.startsWith("DELEGATION_") || caller === this.#own) return true;
    const known = this.delegations.get(key(caller, payload.delegation_id));
    return (known?.target ?? canonical(payload.target_id)) === this.#own;
  }

  #apply({ event, workspace_id: id, payload, timestamp }) {
    if (event.startsWith("DELEGATION_")) return this.#move(event, id, payload);
    const workspace = this.workspaces.get(id);
    if (event === "WORKSPACE_REMOVED") this.workspaces.delete(id);
    else if (event === "WORKSPACE_PROVISIONING" || (PRESENCE.has(event) && !workspace)) this.#learnNames();
    else if (!workspace) return null;
    else if (event === "WORKSPACE_HEARTBEAT") Object.assign(workspace, { last_heartbeat_at: timestamp, active_tasks: payload.active_tasks });
    else if (event === "TASK_UPDATED") workspace.current_task = payload.current_task;
    else if (PRESENCE.has(event)) workspace.status = event.slice("WORKSPACE_".length).toLowerCase();
    return null;
  }

  // The picture may be newer than the events that follow it: what they say of a delegation comes to the same in the end.
  #move(event, caller, payload) {
    const at = key(caller, payload.delegation_id);
    const before = this.delegations.get(at) ?? null;
    const isSent = event === "DELEGATION_SENT";
    // One that the picture had no room for is counted where it is from now on.
    if (!before && !isSent && !this.#ended.has(at) && this.unseen > 0) this.unseen -= 1;
    if (event in ENDINGS) {
      this.delegations.delete(at);
      keep(this.#ended, at, ENDED_KEPT);
      return before;
    }
    const status = isSent ? "pending" : payload.status;
    if (isEnded(status) || this.#ended.has(at) || (isSent && before)) return before;
    const target = before?.target ?? canonical(payload.target_id);
    if (!this.workspaces.has(target) && !this.#nameless.has(target)) this.#learnNames(target);
    this.delegations.set(at, { id: payload.delegation_id, caller, target, status });
    return before;
  }

  // Events tell that a workspace is new, not all that it is. Of this look only the workspaces are taken: what lives is
  // known from the events, and a picture of before would set it back.
  #learnNames(wanted) {
    if (wanted) keep(this.#nameless, wanted, NAMELESS_KEPT);
    this.#naming ??= setTimeout(async () => {
      this.#naming = null;
      try {
        this.#learn(await ask("/canvas?live=0"));
        this.#tellHearers({ event: "WORKSPACE_NAMES", workspace_id: null, payload: {} }, null);
        this.#tell();
      } catch {
        this.#nameless.clear();
      }
    }, NAMES_AFTER);
  }

  #learn({ workspaces, workspaces_total: total }) {
    this.workspaces = new Map(workspaces.map((workspace) => [workspace.id, workspace]));
    this.unlisted = Math.max(0, total - workspaces.length);
  }

  // What one of them makes of it is nothing to the others, nor to the connection.
  #tellHearers(event, before) {
    for (const hearer of this.#hearers) {
      try {
        hearer(event, before);
      } catch (error) {
        console.error(error);
      }
    }
  }

  #tell() {
    this.#telling ??= setTimeout(() => {
      this.#telling = null;
      this.#toldAfter = this.#untold > MANY ? TOLD_AFTER.many : TOLD_AFTER.few;
      this.#untold = 0;
      for (const watcher of this.#watchers) watcher();
    }, this.#toldAfter);
  }
}

/** Adds to what is remembered, and forgets the oldest. */
function keep(set, one, most) {
  set.add(one);
  if (set.size > most) set.delete(set.values().next().value);
}

/** An id as the server writes it: a caller may have spelled it otherwise. */
function canonical(id) {
  const digits = String(id ?? "").toLowerCase().replaceAll(/^urn:uuid:|[{}-]/g, "");
  if (!/^[0-9a-f]{32}$/.test(digits)) return id;
  return [0, 8, 12, 16, 20].map((from, index, all) => digits.slice(from, all[index + 1])).join("-");
}
