// What the caller of a delegation may do about it: cancel, retry, answer.

import { ask, minted } from "./api.js";
import { Dialog, Doing, address } from "./parts.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor.js";
import { isEnded } from "./words.js";

const route = (caller, id, act) => `/workspaces/${encodeURIComponent(caller)}/delegations/${encodeURIComponent(id)}/${act}`;

export function Actions({ data, caller, id, done }) {
  const [cancelling, setCancelling] = useState(false);
  // One press, however often the request has to be sent, begins one delegation.
  const once = useMemo(minted, []);
  if (!isEnded(data.status)) {
    const close = () => setCancelling(false);
    return html`<button class="danger" onClick=${() => setCancelling(true)}>Cancel…</button>
      ${cancelling && html`<${Cancel} ...${{ caller, id, done }} onClose=${close} />`}`;
  }
  if (!data.target_id) return null;
  const retry = async () => {
    const begun = await ask(route(caller, id, "retry"), { body: { idempotency_key: once } });
    location.hash = address(caller, begun.delegation_id);
  };
  return html`<${Doing} label="Retry" doing="Retrying…" act=${retry} />`;
}

function Cancel({ caller, id, done, onClose }) {
  const field = useRef(null);
  const [fault, setFault] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    try {
      await ask(route(caller, id, "cancel"), { body: { reason: field.current.value.trim() } });
      onClose();
      done();
    } catch (error) {
      setFault(error.message);
      setBusy(false);
    }
  };
  return html`
    <${Dialog} title="Cancel this delegation" onClose=${onClose}>
      <form class="bulk" onSubmit=${submit}>
        <p>It ends as cancelled at once. If the target is working on it, it is told; anything it still answers is kept as a late result.</p>
        <div class="field"><label for="cancel-reason">Reason (optional)</label><input id="cancel-reason" ref=${field} maxlength="500" autocomplete="off" placeholder="Shown to the caller" /></div>
        ${fault && html`<p class="fault" role="alert">${fault}.</p>`}
        <div class="row end"><button type="button" onClick=${onClose}>Not now</button><button class="danger" aria-disabled=${String(busy)}>${busy ? "Cancelling…" : "Cancel the delegation"}</button></div>
      </form>
    <//>`;
}

/** The target's question, and room for the answer. */
export function Answer({ data, caller, id, done }) {
  const field = useRef(null);
  // The question that what is written answers: another one may come while somebody writes.
  const answered = useRef(data.question);
  const [fault, setFault] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (answered.current === data.question) return;
    if (field.current.value.trim()) setFault("The question changed while you wrote: read it again before you answer");
    else answered.current = data.question;
  }, [data.question]);
  const submit = async (event) => {
    event.preventDefault();
    const text = field.current.value;
    if (busy) return;
    if (!text.trim()) return setFault("Write an answer first");
    if (answered.current !== data.question) {
      answered.current = data.question;
      return setFault("The question changed while you wrote. Press again to send this answer to the new one");
    }
    setBusy(true);
    setFault(null);
    try {
      await ask(route(caller, id, "input"), { body: { text } });
      field.current.value = "";
      // While the answer is on its way the form may still stand here; the keyboard is not left in it.
      field.current.blur();
      done();
    } catch (error) {
      setFault(error.message);
    }
    setBusy(false);
  };
  return html`
    <section class="card question" aria-labelledby="of-question">
      <h2 id="of-question">The target asks</h2>
      <p class="said">${data.question}</p>
      <form onSubmit=${submit}>
        <label for="answer">Your answer</label>
        <textarea id="answer" ref=${field} rows="3" aria-describedby="answer-fault"></textarea>
        <p id="answer-fault" class="fault" role="alert">${fault && `${fault}.`}</p>
        <div class="row"><button class="primary" aria-disabled=${String(busy)}>${busy ? "Sending…" : "Send the answer"}</button></div>
      </form>
    </section>`;
}
