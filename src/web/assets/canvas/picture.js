// What of the scene changes seldom, as a picture: teams, ways, discs, names. It is drawn in pieces, so that a crowd keeps
// nobody waiting; until it is whole the one of before is shown.

import { LIVE, isPresent } from "../words.js";
import { DISC } from "./arrange.js";

/** So many discs in sight may each look for another place for its name. */
const FEW = 150;
/** How large a disc is, in pixels of its radius, that has a name beside it. */
const NAMED = 9;
const NAMED_LEADS = 7;
/** How far around its disc the ring of the selected one is. */
export const SELECTED = 9;
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

/** So many pieces are drawn before it is seen how long they took. */
const AT_ONCE = 20;
const LOOK = document.createElement("canvas").getContext("2d");

export class Picture {
  #canvas = document.createElement("canvas");
  #context = this.#canvas.getContext("2d");
  #camera = null;
  #colours = null;
  #pieces = null;
  /** Which version of the scene it shows, when it was begun, in which look, and by what it differs from others besides. */
  version = -1;
  at = -Infinity;
  look = "";
  stamp = "";

  /** Begins anew, as a camera sees it. */
  begin(scene, camera, { selected, hovered }, colours, { look, stamp }) {
    Object.assign(this, { version: scene.version, at: performance.now(), look, stamp });
    this.#colours = colours;
    this.#camera = camera.still();
    empty(this.#canvas, this.#camera);
    this.#camera.aim(this.#context);
    this.#pieces = this.#draw(scene, { selected, hovered });
  }

  /** Goes on with it for so many ms; whether it is whole. */
  goOn(ms) {
    const until = performance.now() + ms;
    let count = 0;
    let isWhole = false;
    while (!isWhole && performance.now() < until) {
      isWhole = this.#pieces.next().done;
      count += 1;
      if (isWhole || count % AT_ONCE === 0) this.#finish();
    }
    return isWhole;
  }

  // Browsers note what is to be drawn, and draw it when somebody looks: all of it at once, if it is not asked for.
  #finish() {
    LOOK.drawImage(this.#canvas, 0, 0);
    LOOK.canvas.width = 1;
  }

  /** Shows it where it belongs, as another camera sees it. */
  show(context, camera) {
    if (!this.#camera) return;
    const { x, y, scale, width, height } = this.#camera;
    if (camera.isSame(this.#camera)) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.drawImage(this.#canvas, 0, 0);
    } else {
      camera.aim(context);
      context.drawImage(this.#canvas, x - width / 2 / scale, y - height / 2 / scale, width / scale, height / scale);
    }
  }

  *#draw(scene, chosen) {
    for (const team of scene.teams) yield this.#drawTeam(team);
    // As they are now: while it is drawn they come and go.
    for (const way of [...scene.ways.values()]) yield this.#drawWay(scene.nodes, way, chosen);
    const seen = [...scene.nodes.values()].filter((node) => this.#camera.shows(node));
    for (const node of seen) yield this.#drawNode(node, scene.loads.get(node.id));
    yield* this.#drawNames(seen, chosen);
  }

  // Names that would lie over others, or over discs, are left out: those of leads come first. What changes
  // with the work would make names jump.
  *#drawNames(seen, { selected, hovered }) {
    const context = this.#context;
    const size = Math.min(13, Math.max(11, 12.5 * this.#camera.scale)) / this.#camera.scale;
    const weight = ({ id, leads }) => (id === selected || id === hovered ? 2 : leads ? 1 : 0);
    const taken = [];
    for (const node of [...seen].sort((one, other) => weight(other) - weight(one))) {
      const chosen = node.id === selected || node.id === hovered;
      if (!chosen && DISC * this.#camera.scale < (node.leads ? NAMED_LEADS : NAMED)) return;
      const text = cut(node.workspace.name, chosen ? 40 : 18);
      const half = text.length * size * 0.29;
      const isFree = (place) => !taken.some((other) => overlap(place, other)) && (node.leads || !seen.some((other) => other !== node && covers(place, other)));
      const places = besides(node, half, size, node.id === selected ? SELECTED + 4 : 4);
      const place = chosen ? places[0] : (seen.length > FEW ? places.slice(0, 1) : places).find(isFree);
      if (place) {
        taken.push(place);
        Object.assign(context, { textAlign: "center", textBaseline: "top", lineJoin: "round", lineWidth: size * 0.3, strokeStyle: this.#colours.surface, fillStyle: this.#colours.ink });
        context.font = `${chosen || node.leads ? 650 : 500} ${size}px ${SANS}`;
        context.strokeText(text, place.x, place.y);
        context.fillText(text, place.x, place.y);
      }
      yield;
    }
  }

  #drawTeam({ x, y, r, depth }) {
    const context = this.#context;
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = depth % 2 ? this.#colours.sunken : this.#colours.surface;
    context.fill();
    context.lineWidth = 1 / this.#camera.scale;
    context.strokeStyle = this.#colours[depth ? "line" : "strong-line"];
    context.stroke();
  }

  #drawWay(nodes, way, { selected }) {
    const [from, to] = [nodes.get(way.caller), nodes.get(way.target)];
    if (!from || !to || from === to) return;
    const context = this.#context;
    const { middle } = curve(from, to);
    const concerned = !selected || selected === way.caller || selected === way.target;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.quadraticCurveTo(middle.x, middle.y, to.x, to.y);
    context.globalAlpha = concerned ? 0.42 : 0.08;
    context.lineWidth = Math.max(1 / this.#camera.scale, 1 + Math.log2(1 + way.total) * 0.9);
    context.strokeStyle = this.#colours[foremost(way.counts)];
    context.stroke();
    context.globalAlpha = 1;
  }

  #drawNode(node, load) {
    const { x, y, r, workspace } = node;
    const context = this.#context;
    dot(context, x, y, r, this.#colours.raised);
    context.setLineDash(rimOf(node));
    ring(context, x, y, r, 1.6, this.#colours["strong-line"]);
    context.setLineDash([]);
    if (DISC * this.#camera.scale < 4) {
      if (load?.total) dot(context, x, y, r * 0.7, this.#colours[foremost(load.counts)]);
      return;
    }
    dot(context, x + r * 0.71, y + r * 0.71, 4.6, this.#colours.raised);
    dot(context, x + r * 0.71, y + r * 0.71, 3.4, this.#colours[presenceColour(workspace.status)]);
    if (load?.total) this.#drawLoad(x, y, r, load);
  }

  // How those stand that a workspace is given, as parts of a ring, and how many they are.
  #drawLoad(x, y, r, load) {
    const context = this.#context;
    let from = -Math.PI / 2;
    for (const status of LIVE) {
      const count = load.counts.get(status);
      if (!count) continue;
      const to = from + (count / load.total) * 2 * Math.PI;
      ring(context, x, y, r - 4.5, 4, this.#colours[status], from, to);
      from = to;
    }
    context.font = `650 ${Math.max(load.total > 999 ? 11 : 13, Math.min(10.5 / this.#camera.scale, 22))}px ${SANS}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = this.#colours.ink;
    context.fillText(load.total > 9999 ? `${Math.round(load.total / 1000)}k` : load.total, x, y + 0.5);
  }
}

/** Gives a drawing the size of what a view shows, and makes it empty. */
export function empty(canvas, { width, height, ratio }) {
  const [across, down] = [width, height].map((length) => Math.max(1, Math.round(length * ratio)));
  // To be given a size empties it, too, but dearly.
  if (canvas.width !== across || canvas.height !== down) {
    Object.assign(canvas, { width: across, height: down });
  } else {
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, across, down);
  }
}

export function ring(context, x, y, r, width, colour, from = 0, to = 2 * Math.PI) {
  context.beginPath();
  context.arc(x, y, r, from, to);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

export function dot(context, x, y, r, colour) {
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

/** The way from one to the other: bent to its right, so that the way back is another one. */
export function curve(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  return { middle: { x: (from.x + to.x) / 2 - dy * 0.14, y: (from.y + to.y) / 2 + dx * 0.14 }, length: Math.hypot(dx, dy) };
}

/** How the rim of a workspace is dashed. */
export const rimOf = ({ workspace }) => (isPresent(workspace.status) ? [] : [4, 4]);

function presenceColour(status) {
  return { online: "good", degraded: "warn", failed: "bad" }[status] ?? "quiet";
}

/** What is most worth seeing of several statuses. */
function foremost(counts) {
  return ["input_required", "stuck", "in_progress", "received", "dispatched", "queued", "pending"].find((status) => counts.has(status)) ?? "pending";
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

/** Where a name may stand: below its disc, or else above it or beside it. */
const besides = ({ x, y, r }, half, size, apart) => [
  { x, y: y + r + apart, half, size }, { x, y: y - r - apart - size, half, size },
  { x: x + r + 8 + half, y: y - size / 2, half, size }, { x: x - r - 8 - half, y: y - size / 2, half, size },
];

/** Whether a name would lie over a disc. */
const covers = ({ x, y, half, size }, disc) => Math.abs(disc.x - x) < half + disc.r * 0.7 && disc.y + disc.r > y && disc.y - disc.r < y + size;

const overlap = (one, other) => Math.abs(one.x - other.x) < one.half + other.half && Math.abs(one.y - other.y) < one.size * 1.1;
