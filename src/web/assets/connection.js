// The line to the server: a picture of where everything stands, and from its place on each event once and in order. Whoever
// was cut off goes on from the place where it was, so that nothing is missing or shown twice.

import { Away, ask, bearer } from "./api.js";

/** How long it may be cut off and still go on from its place; later a new picture costs less than all that happened. */
const RESUME_WITHIN = 60_000;
/** How many events are fetched again rather than the picture. */
const RESUME_EVENTS = 5_000;
/** The longest time between two tries, in ms. */
const LONGEST_PAUSE = 8_000;
/** How long the picture, or a socket's opening, may take, in ms: beyond, it is tried anew. */
const PATIENCE = 20_000;
/** How often it is asked whether the other end is still there, and how long it has to say so, in ms. */
const ASKED_EVERY = 20_000;
const ANSWERS_WITHIN = 5_000;

export class Connection {
  /** `connecting`, `live` or `lost`; in the last case `tryAt` says when it is tried again, and `fault` why if the server said so. */
  state = "connecting";
  tryAt = null;
  fault = null;
  /** The place up to which everything is known; `null` before the first picture. */
  position = null;

  #on;
  #socket = null;
  /** Each try has a number; one that finds another number after waiting leaves. */
  #attempt = 0;
  #failures = 0;
  #lostAt = null;
  #timer = null;
  #asking = null;
  #unanswered = null;

  /** `on` is told of a `picture`, of each `event`, and of a `change` of the state. */
  constructor(on) {
    this.#on = on;
  }

  start() {
    addEventListener("online", this.#doubt);
    document.addEventListener("visibilitychange", this.#doubt);
    this.#asking = setInterval(this.#doubt, ASKED_EVERY);
    return this.#begin();
  }

  stop() {
    removeEventListener("online", this.#doubt);
    document.removeEventListener("visibilitychange", this.#doubt);
    clearInterval(this.#asking);
    this.#attempt += 1;
    this.#close();
  }

  // A line may die without a word: of a machine that slept, of a router that forgot. Only an answer proves that it lives.
  #doubt = () => {
    if (document.hidden) return;
    if (this.state === "lost" && this.#timer !== null) this.#begin();
    if (this.state !== "live" || this.#unanswered !== null) return;
    const socket = this.#socket;
    socket.send("ping");
    this.#unanswered = setTimeout(() => this.#socket === socket && this.#lose(null), ANSWERS_WITHIN);
  };

  async #begin() {
    const mine = (this.#attempt += 1);
    this.#close();
    try {
      const picture = (await this.#mayResume()) ? null : await ask("/canvas", { signal: AbortSignal.timeout(PATIENCE) });
      if (mine !== this.#attempt) return;
      if (picture) {
        this.position = picture.position;
        this.#on.picture(picture);
      }
      this.#open();
    } catch (error) {
      if (mine === this.#attempt && error.status !== 401) this.#lose(error);
    }
  }

  /** Whether to go on from the known place. A place beyond the server's is one of another database. */
  async #mayResume() {
    if (this.position === null || Date.now() - this.#lostAt > RESUME_WITHIN) return false;
    const { position } = await ask("/session", { signal: AbortSignal.timeout(ANSWERS_WITHIN) });
    return position >= this.position && position - this.position <= RESUME_EVENTS;
  }

  #open() {
    const address = new URL(`/ws?after_seq=${this.position}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, ["baton", `bearer.${base64url(bearer())}`]);
    this.#socket = socket;
    const current = (act) => (event) => this.#socket === socket && act(event);
    socket.onopen = current(() => {
      this.#failures = 0;
      this.#lostAt = null;
      this.#become("live");
    });
    socket.onmessage = current(({ data }) => this.#take(data));
    socket.onclose = current(() => this.#lose(null));
    this.#timer = setTimeout(current(() => socket.readyState === WebSocket.CONNECTING && this.#lose(null)), PATIENCE);
  }

  #close() {
    const socket = this.#socket;
    this.#socket = null;
    clearTimeout(this.#timer);
    clearTimeout(this.#unanswered);
    this.#timer = this.#unanswered = null;
    socket?.close();
  }

  #take(data) {
    if (data === "pong") {
      clearTimeout(this.#unanswered);
      this.#unanswered = null;
      return;
    }
    const event = JSON.parse(data);
    if (event.seq !== undefined) {
      if (event.seq <= this.position) return;
      this.position = event.seq;
    }
    this.#on.event(event);
  }

  #lose(error) {
    this.#attempt += 1;
    this.#close();
    this.#lostAt ??= Date.now();
    this.#failures += 1;
    const backedOff = Math.min(LONGEST_PAUSE, 250 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    const pause = error?.retryAfter ? error.retryAfter * 1000 : backedOff;
    this.fault = error === null || error instanceof Away ? null : error;
    this.tryAt = Date.now() + pause;
    this.#timer = setTimeout(() => this.#begin(), pause);
    this.#become("lost");
  }

  #become(state) {
    this.state = state;
    this.#on.change();
  }
}

function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
