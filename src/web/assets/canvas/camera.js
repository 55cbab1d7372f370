// What part of the canvas is seen, and how it is moved: by pointer, wheel, two fingers, or keys.

const NEAREST = 4;
const FARTHEST = 0.04;
/** Room around all, in pixels. */
const MARGIN = 20;

/** What makes a view. */
const MEMBERS = ["x", "y", "scale", "width", "height", "ratio"];

/** A view of the scene: what of it is in the middle of the screen, and how large. */
class View {
  x = 0;
  y = 0;
  scale = 1;
  /** Of the screen, in pixels of the page, and how many points of the screen make one of these: none before it was laid out. */
  width = 1;
  height = 1;
  ratio = 0;

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }

  toWorld(x, y) {
    return [(x - this.width / 2) / this.scale + this.x, (y - this.height / 2) / this.scale + this.y];
  }

  /** Whether something round is on the screen, with what stands about it. */
  shows({ x, y, r }) {
    const [left, top] = this.toScreen(x, y);
    const room = (r + 30) * this.scale;
    return left > -room && top > -room && left < this.width + room && top < this.height + room;
  }

  /** From here on places of a drawing are the scene's, not the screen's. */
  aim(context) {
    const scale = this.scale * this.ratio;
    context.setTransform(scale, 0, 0, scale, (this.width / 2) * this.ratio - this.x * scale, (this.height / 2) * this.ratio - this.y * scale);
  }

  isSame(other) {
    return MEMBERS.every((member) => this[member] === other[member]);
  }

  /** A view that stays as this one is now. */
  still() {
    return Object.assign(new View(), Object.fromEntries(MEMBERS.map((member) => [member, this[member]])));
  }
}

export class Camera extends View {
  /** Whether somebody moved it: then it stays where it is when workspaces come and go. */
  held = false;
  #goal = null;

  /** Shows all of a box, in what `covered` leaves free: how much of the screen lies under something at each side, in pixels. */
  fit({ x, y, width, height }, covered, atOnce) {
    const { left, right, top, bottom } = covered;
    const room = (all, one, other) => Math.max(60, all - one - other - 2 * MARGIN);
    const scale = clamp(Math.min(room(this.width, left, right) / width, room(this.height, top, bottom) / height), FARTHEST, 1.5);
    this.#aim({ x: x - (left - right) / 2 / scale, y: y - (top - bottom) / 2 / scale, scale }, atOnce);
    this.held = false;
  }

  /** Brings a place into what `covered` leaves free. */
  reveal({ x, y }, { left, right, top, bottom }) {
    const [across, down] = this.toScreen(x, y);
    const isFree = (at, before, length, after) => at > before + MARGIN && at < length - after - MARGIN;
    if (isFree(across, left, this.width, right) && isFree(down, top, this.height, bottom) && this.scale > 0.35) return;
    this.held = true;
    const scale = Math.max(this.scale, 0.8);
    this.#aim({ x: x - (left - right) / 2 / scale, y: y - (top - bottom) / 2 / scale, scale }, false);
  }

  pan(dx, dy) {
    this.held = true;
    this.#goal = null;
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
  }

  /** Nearer or farther by a factor, about a point of the screen that stays where it is. */
  zoom(factor, left = this.width / 2, top = this.height / 2) {
    this.held = true;
    this.#goal = null;
    const [x, y] = this.toWorld(left, top);
    this.scale = clamp(this.scale * factor, FARTHEST, NEAREST);
    this.x = x - (left - this.width / 2) / this.scale;
    this.y = y - (top - this.height / 2) / this.scale;
  }

  /** Goes on towards where it is aimed; whether it moved. */
  step(seconds) {
    if (!this.#goal) return false;
    const part = 1 - Math.exp(-9 * seconds);
    for (const member of ["x", "y", "scale"]) this[member] += (this.#goal[member] - this[member]) * part;
    if (Math.abs(this.#goal.scale / this.scale - 1) < 0.002 && Math.hypot(this.#goal.x - this.x, this.#goal.y - this.y) * this.scale < 0.5) this.#arrive();
    return true;
  }

  #aim(goal, atOnce) {
    this.#goal = goal;
    if (atOnce || matchMedia("(prefers-reduced-motion: reduce)").matches) this.#arrive();
  }

  #arrive() {
    Object.assign(this, this.#goal);
    this.#goal = null;
  }
}

const clamp = (value, least, most) => Math.min(most, Math.max(least, value));

/** Moves a camera by what happens to an element. `pressed(left, top)` is told of a press that moved nothing. */
export function steer(element, camera, { pressed, pointed, moved }) {
  const fingers = new Map();
  let travelled = 0;
  const place = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [one, other] = [...fingers.values()];
    return other ? { distance: Math.hypot(one[0] - other[0], one[1] - other[1]), middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2] } : null;
  };
  const handlers = {
    pointerdown(event) {
      element.setPointerCapture(event.pointerId);
      if (fingers.size === 0) travelled = 0;
      fingers.set(event.pointerId, place(event));
    },
    pointermove(event) {
      const now = place(event);
      const before = fingers.get(event.pointerId);
      if (!before) return pointed(...now);
      const spreadBefore = spread();
      fingers.set(event.pointerId, now);
      travelled += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (travelled < 4) return;
      const spreadNow = spread();
      if (spreadNow) camera.zoom(spreadNow.distance / Math.max(1, spreadBefore.distance), ...spreadNow.middle);
      else camera.pan(now[0] - before[0], now[1] - before[1]);
      moved();
    },
    pointerup(event) {
      if (fingers.delete(event.pointerId) && travelled < 4) pressed(...place(event));
    },
    pointercancel: (event) => fingers.delete(event.pointerId),
    pointerleave: () => pointed(null, null),
    wheel(event) {
      event.preventDefault();
      camera.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...place(event));
      moved();
    },
  };
  for (const [name, handler] of Object.entries(handlers)) element.addEventListener(name, handler, { passive: false });
}
