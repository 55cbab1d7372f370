//! What is recorded of one delegation, seen from every side.

use std::collections::HashMap;

use serde_json::Value;

use super::client::{Api, ENDED, Workspace};

/// How a delegation is to have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected<'a> {
    /// With this text.
    Completed(&'a str),
    /// With this error class; any detail that is not empty.
    Failed(&'a str),
    /// On request.
    Cancelled,
}

impl Expected<'_> {
    const fn status(self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Whether the inbox push was on when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Push {
    On,
    Off,
}

/// The rows of the caller's inbox that bring the result of `id`.
pub(crate) async fn replies(api: &Api, caller: &Workspace, id: &str) -> Vec<Value> {
    rows_about(api, caller, "a2a_receive", id).await
}

/// The result rows of `id` in the caller's feed.
pub(crate) async fn result_rows(api: &Api, caller: &Workspace, id: &str) -> Vec<Value> {
    rows_about(api, caller, "delegation", id).await
}

/// What callers' feeds hold of all their delegations, each read once.
#[derive(Default)]
pub(crate) struct Ledger {
    results: HashMap<String, Vec<Value>>,
    replies: HashMap<String, Vec<Value>>,
}

impl Ledger {
    pub(crate) async fn read(api: &Api, caller: &Workspace) -> Self {
        let mut ledger = Self::default();
        ledger.read_on(api, caller).await;
        ledger
    }

    /// Adds another caller's feed.
    pub(crate) async fn read_on(&mut self, api: &Api, caller: &Workspace) {
        let add = |of: &mut HashMap<String, Vec<Value>>, rows: Vec<Value>| {
            for row in rows {
                if row["method"] == "delegate_result" {
                    let id = row["response_body"]["delegation_id"].as_str();
                    let id = id.unwrap_or_else(|| panic!("no delegation_id in {row}"));
                    of.entry(id.to_owned()).or_default().push(row);
                }
            }
        };
        add(&mut self.results, api.feed(caller, "delegation").await);
        add(&mut self.replies, api.feed(caller, "a2a_receive").await);
    }

    /// Whose rows it holds.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &String> {
        self.results.keys().chain(self.replies.keys())
    }

    /// The result rows and replies of one delegation.
    pub(crate) fn rows(&self, id: &str) -> impl Iterator<Item = &Value> {
        let both = [self.results.get(id), self.replies.get(id)];
        both.into_iter().flatten().flatten()
    }

    /// How many delegations have a reply.
    pub(crate) fn replied(&self) -> usize {
        self.replies.len()
    }

    /// Asserts one result row and one reply that say the same; the status and the text (or the error).
    #[track_caller]
    pub(crate) fn only_ending(&self, id: &str) -> (&str, &str) {
        let ending = self.ending(id);
        ending.unwrap_or_else(|complaint| panic!("{id}: {complaint}"))
    }

    /// [`Ledger::only_ending`], or what is wrong with it.
    pub(crate) fn ending(&self, id: &str) -> Result<(&str, &str), String> {
        let of = |rows: &HashMap<String, Vec<Value>>| rows.get(id).map_or(0, Vec::len);
        let (results, replies) = (of(&self.results), of(&self.replies));
        if (results, replies) != (1, 1) {
            return Err(format!("{results} result rows, {replies} replies"));
        }
        let (result, reply) = (&self.results[id][0], &self.replies[id][0]);
        let status = result["status"].as_str().unwrap_or_default();
        let (word, member) = match status {
            "completed" => ("ok", "text"),
            _ => ("error", "error"),
        };
        let text = &result["response_body"][member];
        let agree = reply["status"] == word
            && &reply["response_body"]["text"] == text
            && &reply["request_body"]["parts"][0]["text"] == text;
        match text.as_str() {
            Some(text) if agree => Ok((status, text)),
            _ => Err(format!("the result {result:#} and the reply {reply:#}")),
        }
    }
}

async fn rows_about(api: &Api, caller: &Workspace, activity_type: &str, id: &str) -> Vec<Value> {
    let mut rows = api.feed(caller, activity_type).await;
    rows.retain(|row| {
        let about = |body: &str| row[body]["delegation_id"] == id;
        row["method"] == "delegate_result" && (about("request_body") || about("response_body"))
    });
    rows
}

/// Asserts that `id` ended once, as expected, with the push on: the same in every view, one result row, one reply.
pub(crate) async fn assert_exactly_once(
    api: &Api,
    caller: &Workspace,
    id: &str,
    expected: Expected<'_>,
) {
    assert_ended_once(api, caller, id, expected, Push::On).await;
}

/// [`assert_exactly_once`] for either state of the flag.
pub(crate) async fn assert_ended_once(
    api: &Api,
    caller: &Workspace,
    id: &str,
    expected: Expected<'_>,
    push: Push,
) {
    assert_whole_view(&api.delegation(caller, id).await.expect(200).body, expected);
    assert_list(api, caller, id, expected).await;
    assert_admin_list(api, caller, id, expected).await;
    let results = result_rows(api, caller, id).await;
    assert_eq!(results.len(), 1, "one result row: {results:#?}");
    assert_result_row(&results[0], caller, expected);
    let replies = replies(api, caller, id).await;
    let promised = usize::from(push == Push::On);
    assert_eq!(replies.len(), promised, "replies of {id}: {replies:#?}");
    for reply in &replies {
        assert_reply(reply, caller, expected);
    }
}

fn assert_whole_view(whole: &Value, expected: Expected<'_>) {
    assert_eq!(whole["status"], expected.status(), "{whole:#}");
    match expected {
        Expected::Completed(text) => assert_eq!(result_text(whole), text, "{whole:#}"),
        Expected::Failed(class) => {
            assert_eq!(whole["error_class"], class, "{whole:#}");
            let detail = whole["error"].as_str().unwrap_or_default();
            assert!(!detail.is_empty(), "a failure says why: {whole:#}");
        }
        Expected::Cancelled => {}
    }
}

/// The text of a whole view's `result`.
pub(crate) fn result_text(whole: &Value) -> &str {
    let result = &whole["result"];
    let text = result.as_str().or_else(|| result["text"].as_str());
    text.unwrap_or_else(|| panic!("no result in {whole:#}"))
}

async fn assert_list(api: &Api, caller: &Workspace, id: &str, expected: Expected<'_>) {
    let list = api.delegations(caller).await.expect(200);
    let of_it = |entry: &&Value| entry["delegation_id"] == id;
    let entries: Vec<&Value> = list.rows().iter().filter(of_it).collect();
    assert_eq!(entries.len(), 1, "one entry in the list: {entries:#?}");
    assert_eq!(entries[0]["status"], expected.status(), "{}", entries[0]);
    if let Expected::Completed(text) = expected {
        let preview = entries[0]["response_preview"].as_str().unwrap_or_default();
        let kept = preview.strip_suffix("...").unwrap_or(preview);
        assert!(
            text.starts_with(kept),
            "{preview:?} is a preview of {text:?}"
        );
    }
}

async fn assert_admin_list(api: &Api, caller: &Workspace, id: &str, expected: Expected<'_>) {
    for status in ENDED {
        let reply = api.admin_delegations(status).await.expect(200);
        let entries = reply.body["delegations"].as_array().into_iter().flatten();
        let found = entries
            .filter(|entry| entry["delegation_id"] == id && entry["caller_id"] == *caller.id)
            .count();
        let wanted = usize::from(status == expected.status());
        assert_eq!(found, wanted, "{id} among the {status} of the admin's list");
    }
}

fn assert_result_row(row: &Value, caller: &Workspace, expected: Expected<'_>) {
    assert_eq!(row["status"], expected.status(), "{row:#}");
    assert_eq!(row["workspace_id"], *caller.id, "{row:#}");
    if let Expected::Completed(text) = expected {
        assert_eq!(row["response_body"]["text"], text, "{row:#}");
    }
}

fn assert_reply(row: &Value, caller: &Workspace, expected: Expected<'_>) {
    assert_eq!(row["source_id"], *caller.id, "{row:#}");
    match expected {
        Expected::Completed(text) => {
            assert_eq!(row["status"], "ok", "{row:#}");
            assert_eq!(row["response_body"]["text"], text, "{row:#}");
            assert_eq!(row["request_body"]["parts"][0]["text"], text, "{row:#}");
        }
        Expected::Failed(_) | Expected::Cancelled => {
            assert_eq!(row["status"], "error", "{row:#}");
        }
    }
}
