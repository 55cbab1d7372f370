// Draws the scene. What changes seldom is a picture of its own, drawn anew when the camera moves, else at most five times a
// second; over it beads are drawn in every frame.

import { ENDED, LIVE, isPresent } from "../words.js";
import { DISC } from "./arrange.js";

/** How long the picture below may be out of date, in ms, and how much longer for each disc in it. */
const STALE = 200;
const STALE_MORE = 0.5;
/** So many discs in sight may each look for another place for its name. */
const FEW = 150;
/** How large a disc is, in pixels of its radius, that has a name beside it. */
const NAMED = 9;
const NAMED_LEADS = 7;
/** How long a ring spreads about a caller when a bead came home, in seconds. */
const PULSE = 0.7;
/** Most rings at once. */
const PULSES = 120;
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';
const COLOURS = ["ground", "surface", "raised", "sunken", "ink", "quiet", "line", "strong-line", "accent", "good", "warn", "bad", ...LIVE, ...ENDED];

export class Painter {
  #below = document.createElement("canvas");
  #drawn = { stamp: "", at: 0 };
  #colours = {};
  #pulses = [];
  #beads = { points: 0, of: new Map() };

  constructor(canvas) {
    this.canvas = canvas;
    this.recolour();
  }

  /** Reads the colours of the page anew. */
  recolour() {
    const probe = document.createElement("span");
    document.body.append(probe);
    for (const name of COLOURS) {
      probe.style.color = `var(--${name})`;
      this.#colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
    this.#drawn.stamp = "";
    this.#beads = { points: 0, of: new Map() };
  }

  /** Takes the size of its element. */
  resize(camera) {
    const { width, height } = this.canvas.getBoundingClientRect();
    const ratio = Math.min(2, devicePixelRatio || 1);
    Object.assign(camera, { width, height });
    for (const canvas of [this.canvas, this.#below]) Object.assign(canvas, { width: Math.max(1, Math.round(width * ratio)), height: Math.max(1, Math.round(height * ratio)) });
    this.ratio = ratio;
    this.#drawn.stamp = "";
  }

  pulse(caller, status) {
    if (this.#pulses.length < PULSES) this.#pulses.push({ caller, status, age: 0 });
  }

  /** Draws a frame; whether something goes on moving by itself. */
  paint(scene, camera, { selected, hovered }, seconds) {
    // Its size is not known before it was laid out.
    if (!(this.ratio * camera.scale > 0)) return false;
    const seen = [camera.x, camera.y, camera.scale, this.ratio, selected, hovered].join();
    const now = performance.now();
    const stale = scene.version !== this.#drawn.version && now - this.#drawn.at > STALE + STALE_MORE * scene.nodes.size;
    if (seen !== this.#drawn.stamp || stale) {
      this.#paintBelow(scene, camera, { selected, hovered });
      this.#drawn = { stamp: seen, version: scene.version, at: now };
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.#below, 0, 0);
    this.#aim(context, camera);
    this.#paintBeads(context, scene, camera);
    this.#paintPulses(context, scene, camera, seconds);
    return this.#pulses.length > 0 || scene.version !== this.#drawn.version;
  }

  // From here on places are the scene's, not the screen's.
  #aim(context, camera) {
    const scale = camera.scale * this.ratio;
    context.setTransform(scale, 0, 0, scale, (camera.width / 2) * this.ratio - camera.x * scale, (camera.height / 2) * this.ratio - camera.y * scale);
  }

  #paintBelow(scene, camera, chosen) {
    const context = this.#below.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#below.width, this.#below.height);
    this.#aim(context, camera);
    for (const team of scene.teams) this.#paintTeam(context, team, camera);
    for (const way of scene.ways.values()) this.#paintWay(context, scene, way, camera, chosen);
    for (const node of scene.nodes.values()) {
      if (!visible(node, camera)) continue;
      this.#paintNode(context, node, scene.loads.get(node.id), camera, chosen);
    }
    this.#paintNames(context, scene, camera, chosen);
  }

  // Names that would lie over others, or over discs, are left out: those of leads come first. What changes
  // with the work would make names jump.
  #paintNames(context, scene, camera, { selected, hovered }) {
    const size = Math.min(13, Math.max(11, 12.5 * camera.scale)) / camera.scale;
    const weight = ({ id, leads }) => (id === selected || id === hovered ? 2 : leads ? 1 : 0);
    const seen = [...scene.nodes.values()].filter((node) => visible(node, camera)).sort((one, other) => weight(other) - weight(one));
    const taken = [];
    context.textAlign = "center";
    context.textBaseline = "top";
    context.lineJoin = "round";
    context.lineWidth = size * 0.3;
    context.strokeStyle = this.#colours.surface;
    context.fillStyle = this.#colours.ink;
    for (const node of seen) {
      const chosen = node.id === selected || node.id === hovered;
      if (!chosen && DISC * camera.scale < (node.leads ? NAMED_LEADS : NAMED)) break;
      const text = cut(node.workspace.name, chosen ? 40 : 18);
      const half = text.length * size * 0.29;
      const isFree = (place) => !taken.some((other) => overlap(place, other)) && (node.leads || !seen.some((other) => other !== node && covers(place, other)));
      const places = besides(node, half, size);
      const place = chosen ? places[0] : (seen.length > FEW ? places.slice(0, 1) : places).find(isFree);
      if (!place) continue;
      taken.push(place);
      context.font = `${chosen || node.leads ? 650 : 500} ${size}px ${SANS}`;
      context.strokeText(text, place.x, place.y);
      context.fillText(text, place.x, place.y);
    }
  }

  #paintTeam(context, { x, y, r, depth }, camera) {
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = depth % 2 ? this.#colours.sunken : this.#colours.surface;
    context.fill();
    context.lineWidth = 1 / camera.scale;
    context.strokeStyle = this.#colours[depth ? "line" : "strong-line"];
    context.stroke();
  }

  #paintWay(context, scene, way, camera, { selected }) {
    const [from, to] = [scene.nodes.get(way.caller), scene.nodes.get(way.target)];
    if (!from || !to || from === to) return;
    const { middle } = curve(from, to);
    const concerned = !selected || selected === way.caller || selected === way.target;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.quadraticCurveTo(middle.x, middle.y, to.x, to.y);
    context.globalAlpha = concerned ? 0.42 : 0.08;
    context.lineWidth = Math.max(1 / camera.scale, 1 + Math.log2(1 + way.total) * 0.9);
    context.strokeStyle = this.#colours[foremost(way.counts)];
    context.stroke();
    context.globalAlpha = 1;
  }

  #paintNode(context, { x, y, r, id, workspace }, load, camera, { selected, hovered }) {
    const present = isPresent(workspace.status);
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = this.#colours.raised;
    context.fill();
    context.lineWidth = 1.6;
    context.setLineDash(present ? [] : [4, 4]);
    context.strokeStyle = id === selected || id === hovered ? this.#colours.accent : this.#colours["strong-line"];
    context.stroke();
    context.setLineDash([]);
    if (id === selected) this.#ring(context, x, y, r + 9, 2.5, this.#colours.accent, 0, 2 * Math.PI);
    if (DISC * camera.scale < 4) {
      if (load?.total) this.#dot(context, x, y, r * 0.7, this.#colours[foremost(load.counts)]);
      return;
    }
    this.#dot(context, x + r * 0.71, y + r * 0.71, 4.6, this.#colours.raised);
    this.#dot(context, x + r * 0.71, y + r * 0.71, 3.4, this.#colours[presenceColour(workspace.status)]);
    if (load?.total) this.#paintLoad(context, x, y, r, load, camera);
  }

  // How those stand that a workspace is given, as parts of a ring, and how many they are.
  #paintLoad(context, x, y, r, load, camera) {
    let from = -Math.PI / 2;
    for (const status of LIVE) {
      const count = load.counts.get(status);
      if (!count) continue;
      const to = from + (count / load.total) * 2 * Math.PI;
      this.#ring(context, x, y, r - 4.5, 4, this.#colours[status], from, to);
      from = to;
    }
    context.font = `650 ${Math.max(load.total > 999 ? 11 : 13, Math.min(10.5 / camera.scale, 22))}px ${SANS}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = this.#colours.ink;
    context.fillText(load.total > 9999 ? `${Math.round(load.total / 1000)}k` : load.total, x, y + 0.5);
  }

  // Beads are pictures: many small ones are cheap to copy, and dear to draw where there is no graphics processor.
  #paintBeads(context, scene, camera) {
    const size = Math.min(DISC * 0.4, Math.max(3.6, 2.7 / camera.scale));
    const scale = camera.scale * this.ratio;
    for (const bead of scene.beads.all.values()) {
      const place = beadPlace(scene, bead);
      if (!place || !visible({ ...place, r: 4 }, camera)) continue;
      const picture = this.#beadOf(bead.status, Math.ceil(size * scale));
      const half = picture.width / 2 / scale;
      context.drawImage(picture, place.x - half, place.y - half, 2 * half, 2 * half);
    }
  }

  /** A bead of a status, so many of the screen's points from its middle to its rim. */
  #beadOf(status, points) {
    if (points !== this.#beads.points) this.#beads = { points, of: new Map() };
    const known = this.#beads.of.get(status);
    if (known) return known;
    const picture = document.createElement("canvas");
    picture.width = picture.height = 2 * points + 2;
    const context = picture.getContext("2d");
    context.translate(points + 1, points + 1);
    this.#dot(context, 0, 0, points, this.#colours.raised);
    this.#dot(context, 0, 0, points - 0.5, this.#colours[status]);
    this.#beads.of.set(status, picture);
    return picture;
  }

  #paintPulses(context, scene, camera, seconds) {
    this.#pulses = this.#pulses.filter((pulse) => {
      pulse.age += seconds;
      const node = scene.nodes.get(pulse.caller);
      if (!node || pulse.age >= PULSE) return false;
      context.globalAlpha = 0.7 * (1 - pulse.age / PULSE);
      this.#ring(context, node.x, node.y, node.r + 3 + 16 * (pulse.age / PULSE), 2, this.#colours[pulse.status], 0, 2 * Math.PI);
      context.globalAlpha = 1;
      return true;
    });
  }

  #ring(context, x, y, r, width, colour, from, to) {
    context.beginPath();
    context.arc(x, y, r, from, to);
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke();
  }

  #dot(context, x, y, r, colour) {
    context.beginPath();
    context.arc(x, y, r, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
  }
}

function presenceColour(status) {
  return { online: "good", degraded: "warn", failed: "bad" }[status] ?? "quiet";
}

/** What is most worth seeing of several statuses. */
function foremost(counts) {
  return ["input_required", "stuck", "in_progress", "received", "dispatched", "queued", "pending"].find((status) => counts.has(status)) ?? "pending";
}

const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

function visible({ x, y, r }, camera) {
  const [left, top] = camera.toScreen(x, y);
  const room = (r + 30) * camera.scale;
  return left > -room && top > -room && left < camera.width + room && top < camera.height + room;
}

/** Where a name may stand: below its disc, or else above it or beside it. */
const besides = ({ x, y, r }, half, size) => [
  { x, y: y + r + 4, half, size }, { x, y: y - r - 4 - size, half, size },
  { x: x + r + 8 + half, y: y - size / 2, half, size }, { x: x - r - 8 - half, y: y - size / 2, half, size },
];

/** Whether a name would lie over a disc. */
const covers = ({ x, y, half, size }, disc) => Math.abs(disc.x - x) < half + disc.r * 0.7 && disc.y + disc.r > y && disc.y - disc.r < y + size;

const overlap = (one, other) => Math.abs(one.x - other.x) < one.half + other.half && Math.abs(one.y - other.y) < one.size * 1.1;

/** The way from one to the other: bent to its right, so that the way back is another one. */
function curve(from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  return { middle: { x: (from.x + to.x) / 2 - dy * 0.14, y: (from.y + to.y) / 2 + dx * 0.14 }, length: Math.hypot(dx, dy) };
}

/** Where a bead is; none if its way cannot be seen. */
function beadPlace(scene, bead) {
  const [from, to] = [scene.nodes.get(bead.caller), scene.nodes.get(bead.target)];
  if (!from || !to) return null;
  const around = bead.along >= 0.999;
  if (around && bead.circles) return { x: to.x + (to.r + 6) * Math.cos(bead.angle), y: to.y + (to.r + 6) * Math.sin(bead.angle) };
  const { middle, length } = curve(from, to);
  const rim = Math.min(0.45, (from.r + 4) / Math.max(1, length));
  const part = rim + bead.along * (1 - 2 * rim);
  const back = 1 - part;
  const x = back * back * from.x + 2 * back * part * middle.x + part * part * to.x;
  const y = back * back * from.y + 2 * back * part * middle.y + part * part * to.y;
  bead.circles = around;
  if (around) bead.angle = Math.atan2(y - to.y, x - to.x);
  return { x, y };
}
