// What came of a delegation: the result or the error, the target's reply byte for byte, and what came too late.

import { ask } from "./api.js";
import { Age, Copy, Failure, Loading, Long, Time, useLoaded } from "./parts.js";
import { html, useState } from "./vendor.js";
import { FAILURES, isEnded, plural } from "./words.js";

/** Deeper than this nothing is indented any more. */
const DEEPEST = 24;
/** A larger reply than this, in bytes, is not indented: it would keep the page waiting. */
const INDENTED_MOST = 2 ** 20;
/** How many bytes of what is no text are shown. */
const BYTES_SHOWN = 4096;

export function Outcome({ data, caller, id }) {
  const hasRaw = data.raw_result !== undefined || data.raw_result_bytes > 0;
  if (!isEnded(data.status) && !hasRaw) return null;
  return html`
    <${Answered} ...${{ data, caller, id, hasRaw }} />
    ${data.late_result && html`
      <section class="card late" aria-labelledby="of-late">
        <header class="row spread"><h2 id="of-late">Late result</h2><span class="quiet small">came <${Time} at=${data.late_result.at} />, <${Age} at=${data.ended_at} to=${data.late_result.at} /> after the ending</span></header>
        <p class="quiet small">It does not change the outcome; it is kept so that it is not lost.</p>
        <${Long} text=${data.late_result.text} />
      </section>`}`;
}

const TITLES = { completed: "Result", failed: "Error", cancelled: "Withdrawn" };

function Answered({ data, caller, id, hasRaw }) {
  const [isRaw, setRaw] = useState(false);
  const tab = (raw, text) => html`<button type="button" aria-pressed=${String(isRaw === raw)} onClick=${() => setRaw(raw)}>${text}</button>`;
  return html`
    <section class="card outcome" data-status=${data.status} aria-labelledby="of-outcome">
      <header class="row spread"><h2 id="of-outcome">${TITLES[data.status] ?? "The target's last reply"}</h2>
        ${hasRaw && html`<div class="tabs" role="group" aria-label="Shown as">${tab(false, "Text")}${tab(true, "Raw")}</div>`}</header>
      ${isRaw && hasRaw ? html`<${Raw} ...${{ data, caller, id }} />` : html`<${Said} data=${data} />`}
    </section>`;
}

function Said({ data }) {
  switch (data.status) {
    case "completed":
      return data.result ? html`<${Long} text=${data.result} />` : html`<p class="quiet">The answer has no text.</p>`;
    case "failed":
      return html`
        <p class="class">${FAILURES[data.error_class] ?? "It failed"}${data.error_class && html` <code class="quiet">${data.error_class}</code>`}</p>
        ${data.error && html`<${Long} text=${data.error} />`}`;
    case "cancelled":
      return data.error ? html`<p class="quiet small">The caller's reason</p><${Long} text=${data.error} />` : html`<p>Withdrawn without a reason.</p>`;
    default:
      return html`<p class="quiet">It has not ended yet. The target's last reply is kept as it came: see Raw.</p>`;
  }
}

/** The reply as it came; it may be large, so it is fetched only when somebody looks. */
function Raw({ data, caller, id }) {
  const path = `/canvas/delegations/${encodeURIComponent(caller)}/${encodeURIComponent(id)}?include=raw`;
  const load = async (signal) => data.raw_result ?? (await ask(path, { signal })).raw_result ?? "";
  const { data: encoded, error, reload } = useLoaded(load, [path, data.raw_result, data.raw_result_bytes]);
  if (error) return html`<${Failure} error=${error} again=${reload} />`;
  if (encoded === null) return html`<${Loading} what="the reply" />`;
  const { text, kind, size } = legible(encoded);
  return html`
    <p class="quiet small row raw-about"><span>${plural(size, "byte")}, ${kind}</span>${text && html`<${Copy} text=${text} label="Copy the reply" />`}</p>
    ${size === 0 ? html`<p class="quiet">The reply is empty.</p>` : html`<${Long} text=${text} />`}`;
}

/** Bytes in base64 as something to read: JSON indented, other text as it is, anything else in hexadecimal. */
function legible(encoded) {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  const size = bytes.length;
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const cut = size > BYTES_SHOWN ? `, the first ${BYTES_SHOWN} shown` : "";
    return { text: hexadecimal(bytes.subarray(0, BYTES_SHOWN)), kind: `not text: shown in hexadecimal${cut}`, size };
  }
  if (size > INDENTED_MOST) return { text, kind: "text as it came", size };
  try {
    JSON.parse(text);
    return { text: indented(text), kind: "JSON, indented here", size };
  } catch {
    return { text, kind: "text as it came", size };
  }
}

// Not read and written again: numbers and repeated members would not be what came.
function indented(json) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, DEEPEST))}`;
  return json.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|\{\s*\}|\[\s*\]|[{}[\],:]|\s+/g, (token) => {
    if (token.trim() === "") return "";
    switch (token) {
      case "{": case "[":
        depth += 1;
        return token + line();
      case "}": case "]":
        depth -= 1;
        return line() + token;
      case ",":
        return token + line();
      case ":":
        return ": ";
      default:
        return token.startsWith('"') ? token : token.replace(/\s/g, "");
    }
  });
}

function hexadecimal(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const part = [...bytes.subarray(at, at + 16)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const printed = part.map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·")).join("");
    lines.push(`${at.toString(16).padStart(6, "0")}  ${digits.padEnd(47)}  ${printed}`);
  }
  return lines.join("\n");
}
