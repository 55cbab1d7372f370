// Who looks: a token that lives in this tab and no longer, and never in an address.

import { ask, speakAs } from "./api.js";
import { html, useEffect, useRef, useState } from "./vendor.js";

const PLACE = "baton.token";

/** The session of this tab if it has one that the server still takes: what `GET /session` says. */
export async function resume(whenRefused) {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    // Out of the address and the history before anything else: it is of use once.
    history.replaceState(null, "", location.pathname);
    const { token } = await ask("/session", { body: { code } });
    return begin(token, whenRefused);
  }
  const token = sessionStorage.getItem(PLACE);
  return token ? begin(token, whenRefused) : null;
}

/** Begins to speak with this token. */
export async function begin(token, whenRefused) {
  speakAs(token, whenRefused);
  try {
    const session = await ask("/session");
    sessionStorage.setItem(PLACE, token);
    return session;
  } catch (error) {
    if (error.status === 401) end();
    throw error;
  }
}

export function end() {
  sessionStorage.removeItem(PLACE);
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
        <p id="token-help" class="quiet small">The admin's token sees everything; the server prints at its start where it is kept. A workspace's token sees its
          organisation. It is kept in this tab until you close it.</p>
      </form>
    </main>`;
}
