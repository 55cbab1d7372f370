// Three organisations at work, with delegations in every state: what the screenshots show.

import { Agent, Baton, busy, says, task } from "./rig.mjs";

const FACTS = "The lighthouse at Cabo da Roca was completed in 1772 and stands 165 metres above the sea.\n\nSources: the national archive; two newspapers of the time.";

/** What an agent makes of a task follows from its first word, and stays so when it is asked again. */
const answers = new Map();
const script = {
  "message/send": ({ message }) => {
    const id = `task-${message.messageId}`;
    const answer = answered(message.parts[0].text, id);
    answers.set(id, answer);
    return answer;
  },
  "tasks/get": ({ id }) => answers.get(id),
};

function answered(text, id) {
  if (text.startsWith("Draft")) return task(id, "working");
  if (text.startsWith("Choose")) return task(id, "input-required", "Two photographs fit the article: the lighthouse at dusk, or the keeper's family of 1911. Which one is to go with it?");
  if (text.startsWith("Book")) return task(id, "failed", "No flights to Horta on that day");
  if (text.startsWith("Print")) return busy;
  if (text.startsWith("Archive")) return task(id, "submitted");
  if (text.startsWith("Hold")) return new Promise(() => {});
  return says(text.startsWith("Check") ? FACTS : "Done, and noted in the minutes.");
}

export async function open() {
  const baton = await Baton.start({ BATON_HISTORY_STEP_MS: "250" });
  const agent = await Agent.start(script);
  const tree = {
    "Newsroom": { "News desk": {}, "Fact checker": {}, "Editor": { "Photo desk": {}, "Translator": {} }, "Archive": {}, "Printer": {} },
    "Travel agency": { "Flight booking": {}, "Concierge": {}, "Visa clerk": {} },
    "Observatory": { "Night watch": {}, "Data pipeline": { "Calibration": {}, "Catalogue": {} } },
  };
  const found = {};
  const make = async (branch, parent) => {
    for (const [name, below] of Object.entries(branch)) {
      const silent = ["Calibration", "Visa clerk"].includes(name);
      found[name] = await baton.workspace(name, { parent, role: roles[name], url: silent ? undefined : agent.url });
      if (!silent) await baton.ask("/registry/heartbeat", { workspace_id: found[name].id, active_tasks: name.length % 3 }, found[name].auth_token);
      await make(below, found[name]);
    }
  };
  await make(tree);
  const give = (from, to, text, more) => baton.delegate(found[from], found[to], text, more);

  const checked = await give("Newsroom", "Fact checker", "Check when the lighthouse at Cabo da Roca was completed, and how high it stands.");
  await baton.until(found.Newsroom, checked, "completed");
  for (const text of ["Note the visitors of today", "Note the weather", "Note the tides"]) {
    await baton.until(found.Newsroom, await give("Newsroom", "News desk", text), "completed");
  }
  const draft = await give("Newsroom", "Editor", "Draft the article on lighthouses for Saturday's edition, 900 words.");
  await baton.until(found.Newsroom, draft, "in_progress");
  for (const [message, percent] of [["reading the sources", 10], ["first paragraph", 35], ["second paragraph", 60]]) {
    await baton.ask(`/workspaces/${found.Editor.id}/delegations/${draft}/heartbeat`, { message, percent });
  }
  const choose = await baton.ask(`/workspaces/${found.Editor.id}/delegate`, { target_id: found["Photo desk"].id, task: "Choose a photograph for the article on lighthouses.", parent_delegation_id: draft });
  await baton.until(found.Editor, choose.delegation_id, "input_required");
  await baton.ask(`/workspaces/${found.Editor.id}/delegate`, { target_id: found.Translator.id, task: "Hold the translation until the draft is there", parent_delegation_id: draft });
  await give("Newsroom", "Archive", "Archive the issue of last week");
  await give("Newsroom", "Printer", "Print forty proofs");
  await give("Travel agency", "Flight booking", "Book a flight to Horta on Friday");
  await give("Travel agency", "Visa clerk", "Ask what a journalist needs for Cape Verde");
  await give("Travel agency", "Concierge", "Hold a table for six");
  await give("Observatory", "Data pipeline", "Draft the report of the night");
  await give("Data pipeline", "Calibration", "Calibrate the plates 14 to 90");
  await give("Observatory", "Night watch", "Hold the dome open until four");
  for (const [from, to, ...texts] of [
    ["Newsroom", "Fact checker", "Hold the figures of the harbour against last year's", "Draft a list of what is not proven"],
    ["Editor", "Photo desk", "Draft the captions of plates 3 to 9", "Archive the negatives"],
    ["Newsroom", "News desk", "Draft the morning summary"],
    ["Travel agency", "Flight booking", "Hold six seats to Ponta Delgada", "Hold two seats to Bergen", "Draft a route by train"],
    ["Travel agency", "Visa clerk", "Ask how long a permit takes"],
    ["Observatory", "Night watch", "Draft the log of the seeing"],
    ["Data pipeline", "Catalogue", "Archive the plates of November", "Hold the entry of NGC 891"],
    ["Observatory", "Data pipeline", "Choose which night to reduce first"],
  ]) for (const text of texts) await give(from, to, text);
  const dropped = await give("Newsroom", "Archive", "Archive the photographs of 1911");
  await baton.ask(`/workspaces/${found.Newsroom.id}/delegations/${dropped}/cancel`, { reason: "they are on loan" });
  return {
    baton, desk: found.Newsroom, editor: found.Editor, phrase: "lighthouse",
    asking: `/delegations/${found.Editor.id}/${choose.delegation_id}`,
    ended: `/delegations/${found.Newsroom.id}/${checked}`,
    /** Has something happen. */
    stir: async () => {
      for (const [from, to, text] of [["Newsroom", "News desk", "Note the delays"], ["Travel agency", "Concierge", "Check the opening hours"], ["Newsroom", "Fact checker", "Check the name of the keeper"]]) {
        await baton.until(found[from], await give(from, to, text), "completed");
      }
    },
    close: async () => {
      agent.end();
      await baton.stop();
    },
  };
}

const roles = {
  "News desk": "collects", "Fact checker": "verifies claims", "Editor": "writes and cuts", "Photo desk": "finds pictures", "Translator": "Portuguese, Danish",
  "Archive": "keeps what was", "Printer": "one job at a time", "Flight booking": "books", "Concierge": "arranges", "Visa clerk": "asks consulates", "Data pipeline": "reduces plates",
};
