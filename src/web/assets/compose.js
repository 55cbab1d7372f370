// To delegate: a target, a task, and what follows of it.

import { ask, minted } from "./api.js";
import { Doing, Name, Status, address, useLive } from "./parts.js";
import { html, useEffect, useMemo, useRef, useState } from "./vendor.js";
import { ENDINGS, cut, isEnded, isPresent, plural, presence, standing } from "./words.js";

/** How many choices are shown at once; more are found by their name. */
const CHOICES = 60;
/** How many of those that were sent from here stay in sight. */
const FOLLOWED = 6;

const DEADLINES = [["", "Server default (6 h unless configured)"], ["300", "5 minutes"], ["3600", "1 hour"], ["21600", "6 hours"], ["86400", "1 day"], ["604800", "1 week"], ["custom", "Custom…"]];
const UNITS = [["60", "minutes"], ["3600", "hours"], ["86400", "days"]];
const REDELIVERIES = [
  ["", "Send again only if the target ignores repeats"],
  ["never", "Never send again; it ends as failed instead"],
  ["always", "Always send again; the target may do it twice"],
];
const FIELDS = ["target_id", "task", "deadline_seconds", "priority", "redelivery"];
const BLANK = { target: null, task: "", deadline: "", amount: "30", unit: "60", priority: "", redelivery: "" };

/** Whether this session may act for a workspace. */
export const mayActFor = (session, id) => session.principal === "admin" || session.workspace_id === id;

/**
 * Delegates from the workspace `caller`, or from one that is chosen here, to `target` if one is given. What was sent stays
 * below with its state.
 */
export function Compose({ live, session, caller, target }) {
  const own = session.principal === "workspace" ? session.workspace_id : null;
  const [from, setFrom] = useState(caller ?? own);
  const [draft, setDraft] = useState({ ...BLANK, target: target ?? null });
  const [sent, setSent] = useState([]);
  const [fault, setFault] = useState(null);
  const form = useRef(null);
  const key = useKey();
  const change = (members) => {
    setDraft((before) => ({ ...before, ...members }));
    setFault(null);
  };
  const send = async () => {
    const missing = missed(from, draft);
    if (missing) return stopAt(missing);
    try {
      const body = { ...order(draft), idempotency_key: key.of(from, draft.target, draft.task) };
      const { delegation_id: id } = await ask(`/workspaces/${encodeURIComponent(from)}/delegate`, { body });
      key.spend();
      setSent((before) => [{ id, caller: from, target: draft.target, task: draft.task }, ...before].slice(0, FOLLOWED));
      setDraft((before) => ({ ...before, task: "" }));
      setFault(null);
      form.current?.querySelector("textarea").focus();
    } catch (error) {
      stopAt(explained(error));
    }
  };
  const stopAt = (found) => {
    setFault(found);
    requestAnimationFrame(() => form.current?.querySelector("[aria-invalid=true]")?.focus());
  };
  const hurry = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.current.querySelector("button.primary").click();
  };
  const at = (field) => (fault?.field === field ? fault.text : null);
  if (from && !mayActFor(session, from)) return html`<p class="quiet">Only ${live.name(from) ?? "the workspace"} itself, or the admin, may delegate from here.</p>`;
  return html`
    <div class="compose" ref=${form} onKeyDown=${hurry}>
      ${!caller && !own && html`<${Picker} live=${live} label="From" fault=${at("from")} value=${from} change=${(id) => { setFrom(id); change({}); }} fits=${(id) => id !== draft.target && (!draft.target || live.related(id, draft.target))} />`}
      <${Picker} live=${live} label="To" fault=${at("target_id")} value=${draft.target} change=${(id) => change({ target: id })} fits=${(id) => id !== from && (!from || live.related(from, id))} />
      <${Field} label="Task" fault=${at("task")} of=${(names) => html`<textarea ...${names} rows="4" value=${draft.task} placeholder="What should be done, in words for the agent" onInput=${(event) => change({ task: event.target.value })} />`} />
      <${More} draft=${draft} change=${change} at=${at} />
      <div class="row spread">
        <${Doing} kind="primary" label="Delegate" doing="Handing over…" act=${send} />
        <span class="quiet small"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span>
      </div>
      <p class="fault" role="alert">${fault && !fault.field ? fault.text : ""}</p>
      ${sent.length > 0 && html`<ol class="followed" aria-label="Sent from here">${sent.map((one) => html`<${Followed} key=${one.id} live=${live} one=${one} />`)}</ol>`}
    </div>`;
}

/* What is sent */

/**
 * One key for each composed task: as long as it stays the same (whom, what) trying again begins nothing twice, and another
 * task under the same key would be refused.
 */
function useKey() {
  const held = useRef({});
  return {
    of(...members) {
      const of = JSON.stringify(members);
      if (held.current.of !== of) held.current = { of, key: minted() };
      return held.current.key;
    },
    spend: () => (held.current = {}),
  };
}

function missed(from, draft) {
  if (!from) return { field: "from", text: "Choose who delegates." };
  if (!draft.target) return { field: "target_id", text: "Choose a target." };
  if (!draft.task.trim()) return { field: "task", text: "Describe the task." };
  return null;
}

function order({ target, task, deadline, amount, unit, priority, redelivery }) {
  const seconds = deadline === "custom" ? Math.round(Number(amount) * Number(unit)) : Number(deadline);
  const body = { target_id: target, task };
  if (deadline) body.deadline_seconds = seconds;
  if (priority !== "") body.priority = Number(priority);
  if (redelivery) body.redelivery = redelivery;
  return body;
}

/** A refusal in words, at the field that it is about. */
function explained(error) {
  const { body, status, retryAfter } = error;
  if (FIELDS.includes(body?.field)) return { field: body.field, text: `${error.message}.` };
  if (status === 404 || status === 403) return { field: "target_id", text: `${error.message}.` };
  const again = retryAfter ? `Try again in ${plural(retryAfter, "second")}` : "Try again";
  return { text: `${error.message}. ${again}: nothing is begun twice, and what you wrote stays here.` };
}

/* Fields */

let fields = 0;
const useId = (word) => useMemo(() => `${word}-${(fields += 1)}`, []);

/** A labelled control. `of` draws it with its names. */
function Field({ label, hint, fault, of }) {
  const id = useId("field");
  const described = [hint && `${id}-hint`, fault && `${id}-fault`].filter(Boolean).join(" ");
  return html`
    <div class="field">
      <label for=${id}>${label}</label>
      ${of({ id, "aria-invalid": fault ? "true" : undefined, "aria-describedby": described || undefined })}
      ${hint && html`<p id=${`${id}-hint`} class="quiet small">${hint}</p>`}
      ${fault && html`<p id=${`${id}-fault`} class="fault small">${fault}</p>`}
    </div>`;
}

const Choice = ({ names, options, value, change }) => html`
  <select ...${names} value=${value} onChange=${(event) => change(event.target.value)}>
    ${options.map(([word, text]) => html`<option value=${word} selected=${word === value}>${text}</option>`)}
  </select>`;

function More({ draft, change, at }) {
  const faulty = ["deadline_seconds", "priority", "redelivery"].some(at);
  const [open, setOpen] = useState(false);
  return html`
    <details class="more" open=${open || faulty} onToggle=${(event) => setOpen(event.currentTarget.open)}>
      <summary>More</summary>
      <div class="more-fields">
        <${Field} label="Deadline" fault=${at("deadline_seconds")} of=${(names) => html`
          <${Choice} names=${names} options=${DEADLINES} value=${draft.deadline} change=${(deadline) => change({ deadline })} />
          ${draft.deadline === "custom" && html`<div class="span">
            <input type="number" min="1" aria-label="Deadline: how many" value=${draft.amount} onInput=${(event) => change({ amount: event.target.value })} />
            <${Choice} names=${{ "aria-label": "Deadline: of what" }} options=${UNITS} value=${draft.unit} change=${(unit) => change({ unit })} />
          </div>`}`} />
        <${Field} label="Priority" hint="0 to 100; higher goes first. The default is 50." fault=${at("priority")} of=${(names) => html`
          <input ...${names} type="number" min="0" max="100" placeholder="50" value=${draft.priority} onInput=${(event) => change({ priority: event.target.value })} />`} />
        <${Field} label="If the answer is lost on the way" fault=${at("redelivery")} of=${(names) => html`
          <${Choice} names=${names} options=${REDELIVERIES} value=${draft.redelivery} change=${(redelivery) => change({ redelivery })} />`} />
      </div>
    </details>`;
}

/** Chooses a workspace: by its name as it is typed, or from the list. Those who are present come first. */
function Picker({ live, label, value, change, fits, fault }) {
  useLive(live);
  const [text, setText] = useState(null);
  const [at, setAt] = useState(0);
  const list = useId("choices");
  const open = text !== null;
  const found = open ? choices(live, text, fits) : [];
  const shown = found.slice(0, CHOICES);
  const active = Math.min(at, shown.length - 1);
  const take = (workspace) => {
    if (!workspace) return;
    change(workspace.id);
    setText(null);
  };
  const press = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !open) setText("");
    else if (step) setAt((active + step + shown.length) % Math.max(1, shown.length));
    else if (event.key === "Enter" && open) take(shown[active]);
    else if (event.key === "Escape" && open) setText(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const chosen = value ? live.workspaces.get(value) : null;
  const hint = chosen && !open && !isPresent(chosen.status) ? `It is ${presence(chosen.status)}: the task waits until it is back.` : null;
  return html`
    <${Field} label=${label} fault=${fault} hint=${hint} of=${(names) => html`
      <div class="picker">
        ${chosen && !open && html`<${Presence} status=${chosen.status} bare />`}
        <input ...${names} type="text" role="combobox" autocomplete="off" spellcheck=${false} aria-expanded=${open ? "true" : "false"} aria-controls=${list} aria-autocomplete="list"
          aria-activedescendant=${open && shown.length ? `${list}-${active}` : undefined} class=${chosen && !open ? "chosen" : ""}
          placeholder="A workspace" value=${text ?? chosen?.name ?? ""}
          onClick=${() => open || setText("")} onInput=${(event) => { setText(event.target.value); setAt(0); }} onKeyDown=${press} onBlur=${() => setText(null)} />
        <ul id=${list} role="listbox" aria-label=${label} hidden=${!open}>
          ${shown.map((workspace, index) => html`<${Option} key=${workspace.id} id=${`${list}-${index}`} workspace=${workspace} active=${index === active} take=${take} />`)}
          ${open && found.length === 0 && html`<li role="option" aria-disabled="true" aria-selected="false" class="quiet">${text ? "No workspace it may delegate to matches." : "There is nobody it may delegate to: that is only workspaces with the same parent, and those above and below."}</li>`}
          ${found.length > shown.length && html`<li role="option" aria-disabled="true" aria-selected="false" class="quiet">${plural(found.length - shown.length, "more", "more")}: type part of the name.</li>`}
        </ul>
      </div>`} />`;
}

/** Whose name or role has the text: those who are present first, then by name. */
function choices(live, text, fits) {
  const words = text.trim().toLowerCase();
  const matches = ({ name, role, id }) => !words || name.toLowerCase().includes(words) || role?.toLowerCase().includes(words) || id === words;
  const found = [...live.workspaces.values()].filter((one) => matches(one) && fits(one.id));
  return found.sort((one, other) => isPresent(other.status) - isPresent(one.status) || one.name.localeCompare(other.name));
}

function Option({ id, workspace, active, take }) {
  const element = useRef(null);
  useEffect(() => active && element.current.scrollIntoView({ block: "nearest" }), [active]);
  // The press must not take the keyboard from the field, or the list is gone before it is released.
  return html`
    <li id=${id} role="option" ref=${element} aria-selected=${active ? "true" : "false"} onMouseDown=${(event) => event.preventDefault()} onClick=${() => take(workspace)}>
      <span class="choice-name">${workspace.name}</span>
      <${Presence} status=${workspace.status} />
      ${workspace.role && html`<span class="quiet small choice-role">${workspace.role}</span>`}
    </li>`;
}

export const Presence = ({ status, bare }) => html`
  <span class="presence small" data-presence=${status}><i aria-hidden="true"></i><span class=${bare ? "hidden-text" : "quiet"}>${presence(status)}</span></span>`;

/* What was sent */

/** A delegation that was begun here, followed to its end. */
function Followed({ live, one }) {
  const line = useFollowed(live, one);
  const { why } = standing(line);
  return html`
    <li>
      <div class="row spread">
        <${Status} status=${line.status} />
        <a class="small" href=${address(one.caller, one.id)}>Open it</a>
      </div>
      <p class="followed-task"><${Name} live=${live} id=${one.target} link=${false} />: ${cut(one.task, 160)}</p>
      ${why && html`<p class=${line.status === "failed" ? "fault small" : "quiet small"}>${cut(why, 240)}</p>`}
    </li>`;
}

/** How it stands: looked up once, as it may have moved before its id was known here, and then as the events tell. */
function useFollowed(live, { id, caller }) {
  const [line, setLine] = useState({ status: "pending" });
  useEffect(() => {
    let heard = 0;
    const look = async () => {
      const before = heard;
      const found = await ask(`/workspaces/${encodeURIComponent(caller)}/delegations/${encodeURIComponent(id)}`).catch(() => null);
      if (found && heard === before) setLine({ ...found, result_preview: found.result });
    };
    look();
    // Without an event everything may be different: what was missed is looked up.
    return live.hear((event) => {
      if (!event) return look();
      if (event.workspace_id !== caller || event.payload?.delegation_id !== id) return;
      const status = ENDINGS[event.event] ?? event.payload.status;
      if (!status) return;
      heard += 1;
      const { response_preview, reason, message, percent } = event.payload;
      setLine((before) => (isEnded(before.status) ? before : { ...event.payload, status, result_preview: response_preview, error: event.payload.error ?? reason, progress: { message, percent } }));
    });
  }, [id]);
  return line;
}
