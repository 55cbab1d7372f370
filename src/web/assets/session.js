// Who looks: a token that lives in this tab and no longer, and never in an address.

import { ask, speakAs } from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor.js";

const PLACE = "baton.token";
const SPENT = "This link was used before, or is too old. Sign in with a token.";
/** What a token is made of; anything else cannot even be sent. */
const TOKEN = /^[\x21-\x7e]+$/;

/** What the browser keeps at a place; nothing where it lets this page keep nothing. */
export function kept(storage, place) {
  try {
    return window[storage].getItem(place);
  } catch {
    return null;
  }
}

/** Keeps a text as well as the browser lets it. */
export function keep(storage, place, text) {
  try {
    window[storage].setItem(place, text);
  } catch {
    // It holds as long as the page is open.
  }
}

/** The code of a link that signs in, if the address is one. */
export const codeHere = () => new URLSearchParams(location.hash.slice(1)).get("code");

/** The session of this tab if it has one that the server still takes: what `GET /session` says. */
export async function resume(whenRefused) {
  const code = codeHere();
  const token = code ? await redeemed(code) : kept("sessionStorage", PLACE);
  return token ? begin(token, whenRefused) : null;
}

async function redeemed(code) {
  // Out of the address and the history before anything else: it is of use once.
  history.replaceState(null, "", location.pathname);
  try {
    return (await ask("/session", { body: { code } })).token;
  } catch (error) {
    if (error.status === 401) error.note = SPENT;
    throw error;
  }
}

/** Begins to speak with this token. */
export async function begin(token, whenRefused) {
  speakAs(token, whenRefused);
  try {
    const session = await ask("/session");
    keep("sessionStorage", PLACE, token);
    return session;
  } catch (error) {
    if (error.status === 401) end();
    throw error;
  }
}

export function end() {
  try {
    sessionStorage.removeItem(PLACE);
  } catch {
    // Where nothing may be kept, nothing is.
  }
  speakAs(null, () => {});
}

/** Asks for a token. `note` says why it is asked for again. */
export function SignIn({ note, whenRefused, onSession }) {
  const [fault, setFault] = useState(note);
  const [busy, setBusy] = useState(false);
  const field = useRef(null);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const token = field.current.value.trim();
    if (!token) return setFault("Paste a token first.");
    if (!TOKEN.test(token)) return setFault("A token contains no spaces and no special letters: copy it again, and only the token.");
    setBusy(true);
    try {
      onSession(await begin(token, whenRefused));
    } catch (error) {
      setFault(error.status === 401 ? "The server does not know this token. Was it revoked, or cut off when it was copied?" : `${error.message}.`);
      setBusy(false);
      field.current.select();
    }
  };
  return html`
    <main class="sign-in">
      <form class="card" onSubmit=${submit}>
        <img src="assets/icon.svg" alt="" width="44" height="44" />
        <h1>Baton</h1>
        <p class="quiet">Durable delegation between agents.</p>
        <label for="token">Token</label>
        <input id="token" type="password" ref=${field} autocomplete="off" spellcheck=${false} aria-describedby="token-help token-fault" />
        <p id="token-fault" class="fault" role="alert">${fault}</p>
        <button class="primary" disabled=${busy}>${busy ? "Signing in…" : "Sign in"}</button>
        <p id="token-help" class="quiet small">The admin's token sees everything; the server says at start where it is kept. A workspace's token sees its own
          organisation. This tab keeps the token until you close it.</p>
      </form>
    </main>`;
}
