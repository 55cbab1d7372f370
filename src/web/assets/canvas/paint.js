// Draws the scene: a picture of what changes seldom, and over it in every frame what moves.

import { ENDED, LIVE } from "../words.js";
import { DISC } from "./arrange.js";
import { Picture, SELECTED, curve, dot, empty, rimOf, ring } from "./picture.js";

/** How long the picture below may be out of date, in ms, and how much longer for each disc in it. */
const STALE = 200;
const STALE_MORE = 0.5;
/** How long a frame goes on with the next picture, in ms. */
const PIECE = 4;
/** How long a ring spreads about a caller when a bead came home, in seconds. */
const PULSE = 0.7;
/** Most rings at once. */
const PULSES = 120;
const COLOURS = ["ground", "surface", "raised", "sunken", "ink", "quiet", "line", "strong-line", "accent", "good", "warn", "bad", ...LIVE, ...ENDED];

export class Painter {
  #shown = new Picture();
  /** The next picture, as long as it is not whole. */
  #coming = null;
  /** One that nobody sees, to be drawn the next time. */
  #spare = new Picture();
  #colours = {};
  #pulses = [];
  #beads = { points: 0, of: new Map() };
  /** Grows when all is to be drawn anew. */
  #edition = 0;

  constructor(canvas) {
    this.canvas = canvas;
    this.recolour();
  }

  /** Reads the colours of the page anew. */
  recolour() {
    const probe = document.createElement("span");
    document.body.append(probe);
    this.#colours = {};
    for (const name of COLOURS) {
      probe.style.color = `var(--${name})`;
      this.#colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
    this.#edition += 1;
    this.#beads = { points: 0, of: new Map() };
  }

  /** Takes the size of its element. */
  resize(camera) {
    const { width, height } = this.canvas.getBoundingClientRect();
    Object.assign(camera, { width, height, ratio: Math.min(2, devicePixelRatio || 1) });
  }

  pulse(caller, status) {
    if (this.#pulses.length < PULSES) this.#pulses.push({ caller, status, age: 0 });
  }

  /** Draws a frame; whether something goes on moving by itself. */
  paint(scene, camera, chosen, seconds) {
    // Its size is not known before it was laid out.
    if (!(camera.ratio * camera.scale > 0)) return false;
    const isWhole = this.#takePicture(scene, camera, chosen);
    const context = this.canvas.getContext("2d");
    empty(this.canvas, camera);
    this.#shown.show(context, camera);
    camera.aim(context);
    this.#paintChosen(context, scene, chosen);
    this.#paintBeads(context, scene, camera);
    this.#paintPulses(context, scene, seconds);
    return this.#pulses.length > 0 || !isWhole;
  }

  // Whether the picture that is shown says all that there is to say.
  #takePicture(scene, camera, chosen) {
    const look = [camera.width, camera.height, camera.ratio, this.#edition].join();
    const stamp = [look, camera.x, camera.y, camera.scale, chosen.selected, chosen.hovered].join();
    const { at, version } = this.#shown;
    // One in colours of before is not worth to be ended; one of another place is, or whoever moves on would see none.
    if (this.#coming?.look !== look) this.#coming = null;
    const isOld = scene.version !== version && performance.now() - at > STALE + STALE_MORE * scene.nodes.size;
    if (!this.#coming && (stamp !== this.#shown.stamp || isOld)) {
      this.#coming = this.#spare;
      this.#coming.begin(scene, camera, chosen, this.#colours, { look, stamp });
    }
    if (this.#coming?.goOn(PIECE)) {
      [this.#shown, this.#spare, this.#coming] = [this.#coming, this.#shown, null];
    }
    return !this.#coming && stamp === this.#shown.stamp && scene.version === this.#shown.version;
  }

  // At once, whatever becomes of the next picture.
  #paintChosen(context, scene, { selected, hovered }) {
    for (const id of [selected, hovered]) {
      const node = scene.nodes.get(id);
      if (!node) continue;
      const { x, y, r } = node;
      // Around the dot on its rim that tells its presence.
      const gap = 5 / r;
      context.setLineDash(rimOf(node));
      ring(context, x, y, r, 1.6, this.#colours.accent, Math.PI / 4 + gap, (9 * Math.PI) / 4 - gap);
      context.setLineDash([]);
      if (id === selected) ring(context, x, y, r + SELECTED, 2.5, this.#colours.accent);
    }
  }

  // Beads are pictures: many small ones are cheap to copy, and dear to draw where there is no graphics processor.
  #paintBeads(context, scene, camera) {
    const size = Math.min(DISC * 0.4, Math.max(3.6, 2.7 / camera.scale));
    const scale = camera.scale * camera.ratio;
    for (const bead of scene.beads.all.values()) {
      const place = beadPlace(scene, bead);
      if (!place || !camera.shows(place)) continue;
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
    dot(context, 0, 0, points, this.#colours.raised);
    dot(context, 0, 0, points - 0.5, this.#colours[status]);
    this.#beads.of.set(status, picture);
    return picture;
  }

  #paintPulses(context, scene, seconds) {
    this.#pulses = this.#pulses.filter((pulse) => {
      pulse.age += seconds;
      const node = scene.nodes.get(pulse.caller);
      if (!node || pulse.age >= PULSE) return false;
      context.globalAlpha = 0.7 * (1 - pulse.age / PULSE);
      ring(context, node.x, node.y, node.r + 3 + 16 * (pulse.age / PULSE), 2, this.#colours[pulse.status]);
      context.globalAlpha = 1;
      return true;
    });
  }
}

/** Where a bead is; none if its way cannot be seen. */
function beadPlace(scene, bead) {
  const [from, to] = [scene.nodes.get(bead.caller), scene.nodes.get(bead.target)];
  if (!from || !to) return null;
  const around = bead.along >= 0.999;
  if (around && bead.circles) return { x: to.x + (to.r + 6) * Math.cos(bead.angle), y: to.y + (to.r + 6) * Math.sin(bead.angle), r: 4 };
  const { middle, length } = curve(from, to);
  const rim = Math.min(0.45, (from.r + 4) / Math.max(1, length));
  const part = rim + bead.along * (1 - 2 * rim);
  const back = 1 - part;
  const x = back * back * from.x + 2 * back * part * middle.x + part * part * to.x;
  const y = back * back * from.y + 2 * back * part * middle.y + part * part * to.y;
  bead.circles = around;
  if (around) bead.angle = Math.atan2(y - to.y, x - to.x);
  return { x, y, r: 4 };
}
