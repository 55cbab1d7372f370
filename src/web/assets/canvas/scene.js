// What the canvas shows, kept up event by event: who lies where, how many stand how at each workspace and on each way.

import { ENDINGS } from "../words.js";
import { arrange } from "./arrange.js";
import { Beads } from "./beads.js";

/** The newest happenings that are shown in words. */
const NEWS_KEPT = 7;

export class Scene {
  nodes = new Map();
  teams = [];
  bounds = { x: 0, y: 0, width: 1, height: 1 };
  /** Whether there is more room below than beside. */
  tall = false;
  /** By workspace: how many it is given, by status, and how many it has given away. */
  loads = new Map();
  /** By `caller>target`: `{ caller, target, total, counts }`. */
  ways = new Map();
  counts = new Map();
  beads = new Beads();
  /** The newest happenings, newest first: `{ at, caller, target, id, status }`. */
  news = [];
  /** Grows with each change of what is drawn. */
  version = 0;
  #arranged = "";

  constructor(live) {
    this.live = live;
    this.#begin();
  }

  /** Takes an event, or with none a new picture. Whether places changed. */
  take(event, before) {
    if (!event) return this.#begin();
    const { payload, workspace_id: caller } = event;
    if (!event.event.startsWith("DELEGATION_")) {
      // Presence is drawn; heartbeats of the living change nothing.
      if (event.event.startsWith("WORKSPACE_") && event.event !== "WORKSPACE_HEARTBEAT") return this.#place();
      return false;
    }
    const id = payload.delegation_id;
    const after = this.live.delegations.get(`${caller}/${id}`);
    const status = ENDINGS[event.event] ?? after?.status;
    if (!status) return false;
    if (before) this.#count(caller, before.target, before.status, -1);
    if (after) this.#count(caller, after.target, after.status, 1);
    const target = after?.target ?? before?.target ?? payload.target_id;
    this.beads.move(caller, id, target, status);
    if (status !== before?.status) {
      this.news.unshift({ at: event.timestamp, caller, target, id, status });
      this.news.length = Math.min(this.news.length, NEWS_KEPT);
    }
    this.version += 1;
    return false;
  }

  /** Takes what room there is; whether places changed. */
  fill(width, height) {
    this.tall = height > width;
    return this.#place();
  }

  #begin() {
    this.loads.clear();
    this.ways.clear();
    this.counts.clear();
    for (const { caller, target, status } of this.live.delegations.values()) this.#count(caller, target, status, 1);
    this.beads.reset(this.live.delegations);
    return this.#place();
  }

  #place() {
    this.version += 1;
    const seats = [...this.live.workspaces.values()].map(({ id, parent_id, name }) => `${id}<${parent_id}:${name}`).join() + this.tall;
    if (seats === this.#arranged) {
      for (const node of this.nodes.values()) node.workspace = this.live.workspaces.get(node.id);
      return false;
    }
    this.#arranged = seats;
    Object.assign(this, arrange(this.live.workspaces, this.tall));
    return true;
  }

  #count(caller, target, status, by) {
    add(this.counts, status, by);
    const given = this.#load(target);
    add(given.counts, status, by);
    given.total += by;
    this.#load(caller).sent += by;
    const name = `${caller}>${target}`;
    const way = this.ways.get(name) ?? { caller, target, total: 0, counts: new Map() };
    way.total += by;
    add(way.counts, status, by);
    if (way.total > 0) this.ways.set(name, way);
    else this.ways.delete(name);
  }

  #load(id) {
    if (!this.loads.has(id)) this.loads.set(id, { total: 0, sent: 0, counts: new Map() });
    return this.loads.get(id);
  }

  /** The workspace whose disc is at a place, with some reach beside it. */
  at(x, y, reach) {
    let nearest = null;
    for (const node of this.nodes.values()) {
      const distance = Math.hypot(node.x - x, node.y - y);
      if (distance <= node.r + reach && (!nearest || distance < nearest.distance)) nearest = { node, distance };
    }
    return nearest?.node ?? null;
  }

  /** The next workspace from one in a direction, for the arrow keys. */
  next(from, dx, dy) {
    let best = null;
    for (const node of this.nodes.values()) {
      const [x, y] = [node.x - from.x, node.y - from.y];
      const ahead = x * dx + y * dy;
      if (ahead <= 0) continue;
      const cost = ahead + 2.5 * Math.abs(x * dy - y * dx);
      if (!best || cost < best.cost) best = { node, cost };
    }
    return best?.node ?? null;
  }
}

function add(counts, status, by) {
  const now = (counts.get(status) ?? 0) + by;
  if (now > 0) counts.set(status, now);
  else counts.delete(status);
}
