// Many delegations cancelled or retried at once: first what it would come to, then how far it is, then what came of it.

import { ask } from "./api.js";
import { asked } from "./listing.js";
import { Dialog, Failure, address } from "./parts.js";
import { html, useEffect, useRef, useState } from "./vendor.js";
import { STATUSES, number, plural, short } from "./words.js";

/** How many ids one request may name. */
const IDS = 500;
/** What one request is tried again after when the server does not say, in ms. */
const PAUSE = 2_000;

const WORDS = {
  cancel: {
    title: "Cancel delegations", verb: "Cancel", doing: "Cancelling", done: "cancelled",
    will: (count) => `${count} in flight will end as cancelled. Their callers are told, and so is each target that works on one; anything it still answers is kept as a late result.`,
    not: "Ended ones are not touched.",
    none: "There is nothing to cancel: none of these is in flight.",
  },
  retry: {
    title: "Retry delegations", verb: "Retry", doing: "Retrying", done: "retried",
    will: (count) => `${count} that ended will begin again: each as a new delegation of the same task to the same target. The old ones stay as they are.`,
    not: "Those in flight are not touched, and those already retried from here are not retried again.",
    none: "There is nothing to retry: these are in flight, were already retried from here, or have an unknown target.",
  },
};

/** What is meant where no status was chosen: what was completed is done again only where that is chosen. */
const MEANT = { cancel: ["in_flight"], retry: ["failed", "cancelled"] };
const meant = (filter, act) => (filter.words.length > 0 ? filter : { ...filter, words: MEANT[act] });

/** The requests that name what is meant: one for all that match, one for each some hundred that were chosen. */
function scopes(chosen, filter) {
  if (!chosen) return [Object.fromEntries(Object.entries(asked(filter)).filter(([, value]) => value))];
  const ids = chosen.map(({ caller_id, delegation_id }) => ({ caller_id, delegation_id }));
  return Array.from({ length: Math.ceil(ids.length / IDS) }, (_, index) => ({ ids: ids.slice(index * IDS, (index + 1) * IDS) }));
}

/** What the filter says, in words. */
function inWords(filter, live) {
  const statuses = filter.words.map((word) => STATUSES[word]?.name ?? { in_flight: "In flight", ended: "Ended" }[word] ?? word);
  const said = [
    statuses.length > 0 && `status ${statuses.join(" or ")}`,
    filter.workspace && `sent or received by ${live.name(filter.workspace) ?? short(filter.workspace)}`,
    filter.q && `with the text “${filter.q}”`,
  ].filter(Boolean);
  return `Of all delegations: ${said.join(", ")}.`;
}

export function Bulk({ live, session, filter, act, chosen, onClose }) {
  const words = WORDS[act];
  const [stage, setStage] = useState({ name: "counting" });
  const [stopping, setStopping] = useState(false);
  const reason = useRef("");
  const isStopped = useRef(false);
  const parts = useRef(scopes(chosen, meant(filter, act))).current;
  const path = `/canvas/delegations/${act}`;

  const count = async () => {
    setStage({ name: "counting" });
    try {
      const counted = await Promise.all(parts.map((part) => ask(path, { body: { ...part, dry_run: true } })));
      const matched = counted.reduce((sum, one) => sum + one.matched, 0);
      setStage({ name: "asking", matched, more: counted.some((one) => one.more), before: counted.map((one) => one.before) });
    } catch (error) {
      setStage({ name: "uncounted", error });
    }
  };
  useEffect(() => {
    count();
    return () => { isStopped.current = true; };
  }, []);

  const run = async () => {
    const report = { done: 0, refused: [], refusedCount: 0, matched: stage.matched, more: stage.more };
    const tell = (name, error) => setStage({ name, error, ...report });
    const spoken = act === "cancel" && reason.current.trim() ? { reason: reason.current.trim() } : {};
    tell("running");
    try {
      for (const [index, part] of parts.entries()) {
        let before = stage.before[index];
        do {
          const answer = await patiently(() => ask(path, { body: { ...part, ...spoken, before } }), isStopped);
          if (!answer) return tell("stopped");
          report.done += answer.done;
          report.refusedCount += answer.refused_count;
          report.refused = [...report.refused, ...answer.refused].slice(0, 20);
          before = answer.next;
          tell("running");
          if (isStopped.current) return tell(before || index + 1 < parts.length ? "stopped" : "finished");
        } while (before);
      }
      tell("finished");
    } catch (error) {
      tell("stopped", error);
    }
  };
  // While it runs, Escape and the like only stop it: what came of it is still to be told.
  const close = () => {
    isStopped.current = true;
    if (stage.name === "running") return setStopping(true);
    onClose(["running", "stopped", "finished"].includes(stage.name));
  };
  const isCallers = session.principal !== "admin";
  return html`
    <${Dialog} title=${words.title} onClose=${close}>
      <div class="bulk">
        ${stage.name === "counting" && html`<p class="loading" role="status"><i class="spinner" aria-hidden="true"></i>Counting…</p>`}
        ${stage.name === "uncounted" && html`<${Failure} error=${stage.error} again=${count} />`}
        ${stage.name === "asking" && html`<${Asking} ...${{ words, act, chosen, isCallers, stage, reason, run, close }} scope=${chosen ? `Of ${plural(chosen.length, "selected delegation")}.` : inWords(meant(filter, act), live)} />`}
        ${stage.name === "running" && html`<${Running} words=${words} stage=${stage} stopping=${stopping} stop=${close} />`}
        ${(stage.name === "finished" || stage.name === "stopped") && html`<${Report} words=${words} stage=${stage} close=${close} />`}
      </div>
    <//>`;
}

/** Asks until it is answered: what is only not now is tried again. Nothing when it was stopped meanwhile. */
async function patiently(request, isStopped) {
  for (let tries = 1; !isStopped.current; tries += 1) {
    try {
      return await request();
    } catch (error) {
      const isPassing = error.status === undefined || error.status === 429 || error.status === 503;
      if (!isPassing || tries === 5) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfter ? error.retryAfter * 1000 : PAUSE));
    }
  }
  return null;
}

function Asking({ words, act, chosen, isCallers, stage, reason, run, close, scope }) {
  const first = useRef(null);
  useEffect(() => first.current?.focus(), []);
  const amount = `${stage.more ? "More than " : ""}${number(stage.matched)}`;
  if (stage.matched === 0) {
    return html`<p class="quiet">${scope}</p><p>${words.none}</p><div class="row end"><button ref=${first} onClick=${close}>Close</button></div>`;
  }
  const submit = (event) => {
    event.preventDefault();
    run();
  };
  return html`
    <form onSubmit=${submit}>
      <p class="quiet">${scope}</p>
      <p><strong>${words.will(amount)}</strong></p>
      <p>${words.not}${isCallers && " Only delegations this workspace sent are included."}${!chosen && " Anything accepted from now on is left alone."}</p>
      ${act === "cancel" && html`
        <div class="field"><label for="bulk-reason">Reason (optional)</label>
          <input id="bulk-reason" ref=${first} maxlength="500" autocomplete="off" placeholder="Shown to the callers" onInput=${(event) => { reason.current = event.target.value; }} /></div>`}
      <div class="row end"><button type="button" onClick=${close}>Not now</button>
        <button class=${act === "cancel" ? "danger" : "primary"} ref=${act === "cancel" ? undefined : first}>${words.verb} ${amount.toLowerCase()}</button></div>
    </form>`;
}

function Running({ words, stage, stopping, stop }) {
  const button = useRef(null);
  useEffect(() => button.current.focus(), []);
  const passed = stage.done + stage.refusedCount;
  const of = stage.more ? `more than ${number(stage.matched)}` : number(stage.matched);
  return html`
    <p role="status">${stopping ? "Stopping after this batch" : words.doing}: ${number(passed)} of ${of}…</p>
    <progress aria-label=${words.doing} max=${stage.matched} value=${stage.more && passed >= stage.matched ? undefined : passed}></progress>
    <div class="row end"><button ref=${button} onClick=${stop}>Stop</button></div>`;
}

function Report({ words, stage, close }) {
  const button = useRef(null);
  useEffect(() => button.current.focus(), []);
  const left = Math.max(0, stage.matched - stage.done - stage.refusedCount);
  return html`
    <div role="status">
      <p><strong>${number(stage.done)} ${words.done}${stage.refusedCount > 0 && `, ${number(stage.refusedCount)} refused`}.</strong></p>
      ${stage.name === "stopped" && html`<p>Stopped; ${stage.more ? "at least " : ""}${number(left)} left as they were.</p>`}
      ${stage.error && html`<p class="fault">${stage.error.message}.</p>`}
      ${stage.name === "finished" && left > 0 && html`<p class="quiet">${plural(left, "other")} changed by ${left === 1 ? "itself" : "themselves"} in the meantime.</p>`}
    </div>
    ${stage.refused.length > 0 && html`
      <h3>Refused, and why</h3>
      <ul class="refused" tabindex="0" aria-label="Refused">
        ${stage.refused.map(({ caller_id, delegation_id, error }) => html`<li key=${`${caller_id}/${delegation_id}`}><a class="mono" href=${address(caller_id, delegation_id)} title=${delegation_id}>${short(delegation_id)}</a> ${error}</li>`)}
      </ul>
      ${stage.refusedCount > stage.refused.length && html`<p class="quiet">And ${number(stage.refusedCount - stage.refused.length)} more.</p>`}`}
    <div class="row end"><button class="primary" ref=${button} onClick=${close}>Close</button></div>`;
}
