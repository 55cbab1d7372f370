// One bead for each live delegation, as long as there are not too many: where it is says how it stands. It waits before its
// target while it is queued, circles it while it is worked on, and comes back to its caller when it has ended.

import { key } from "../live.js";

/** The most beads; the rest is seen as numbers and rings alone. */
const MOST = 400;
/** How much of its way a bead goes in a second. */
const SPEED = 1.5;
/** How fast those circle whose targets report work, in radians a second. */
const TURN = 1.1;
/** How many stand one behind the other before a target. */
const IN_LINE = 9;

/** Where on its way a bead belongs: 0 is the caller, 1 the target. */
const GOALS = { pending: 0.14, dispatched: 0.9, received: 1, in_progress: 1, stuck: 1, input_required: 0.1 };

export class Beads {
  all = new Map();
  #inLine = new Map();

  /** Begins again with what is live. */
  reset(delegations) {
    this.all.clear();
    for (const [at, one] of delegations) {
      if (this.all.size >= MOST) break;
      this.all.set(at, { caller: one.caller, target: one.target, status: one.status, along: goal(one.status, 0), angle: Math.random() * 2 * Math.PI });
    }
  }

  /** Takes a change of a delegation. */
  move(caller, id, target, status) {
    const at = key(caller, id);
    const bead = this.all.get(at);
    if (bead) {
      bead.status = status;
    } else if (this.all.size < MOST) {
      this.all.set(at, { caller, target, status, along: 0.06, angle: Math.random() * 2 * Math.PI });
    }
  }

  /** Goes on by some seconds. Tells of those that came home: `(bead)`. Whether anything moves. */
  step(seconds, home) {
    let moving = false;
    this.#inLine.clear();
    for (const [at, bead] of this.all) {
      const goal = this.#goal(bead);
      const way = goal - bead.along;
      if (Math.abs(way) > 0.001) {
        bead.along += Math.sign(way) * Math.min(Math.abs(way), SPEED * seconds);
        moving = true;
      }
      if (bead.status === "in_progress") {
        bead.angle += TURN * seconds;
        moving = true;
      }
      if (goal === 0 && bead.along < 0.02) {
        this.all.delete(at);
        home(bead);
      }
    }
    return moving;
  }

  /** Puts every bead where it belongs. */
  settle() {
    this.step(10, () => {});
  }

  #goal(bead) {
    if (bead.status !== "queued") return goal(bead.status, 0);
    const place = this.#inLine.get(bead.target) ?? 0;
    this.#inLine.set(bead.target, place + 1);
    return goal("queued", Math.min(place, IN_LINE));
  }
}

const goal = (status, place) => (status === "queued" ? 0.84 - place * 0.05 : GOALS[status] ?? 0);
