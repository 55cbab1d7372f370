//! How answers are shown: as tables to people, as JSON to programs.

use std::io::{IsTerminal as _, Write as _};

use serde_json::{Value, json};

use super::table::{harmless, in_one_line, table};
use super::{Exit, tell};
use crate::client::Event;

pub(super) const WORKSPACES: &[&str] =
    &["id", "name", "status", "delivery_mode", "parent_id", "url"];
pub(super) const TOKENS: &[&str] = &["id", "prefix", "created_at", "last_used_at"];
const DELEGATIONS: &[&str] = &[
    "delegation_id",
    "direction",
    "with",
    "status",
    "created_at",
    "task",
];
const MESSAGES: &[&str] = &["seq", "created_at", "from", "delegation_id", "text"];

/// How to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show {
    pub(super) json: bool,
}

impl Show {
    /// An object: a line for each of its members, and more for longer texts.
    pub(super) fn one(self, answer: &Value) -> anyhow::Result<Exit> {
        if self.json {
            return line(&answer.to_string());
        }
        let members = answer.as_object().into_iter().flatten();
        let width = members.clone().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        let indent = format!("\n{}", " ".repeat(width + 2));
        for (name, value) in members.filter(|(_, value)| !value.is_null()) {
            let value = harmless(&text(value)).replace('\n', &indent);
            line(&format!("{name:<width$}  {value}"))?;
        }
        Ok(Exit::Done)
    }

    /// A list of objects: a table of these members.
    pub(super) fn rows(self, found: &Value, columns: &[&str]) -> anyhow::Result<Exit> {
        let row = |one: &Value| columns.iter().map(|name| member(one, name)).collect();
        self.table(found, found, columns, row)
    }

    pub(super) fn delegations(self, found: &Value) -> anyhow::Result<Exit> {
        let row = |one: &Value| {
            let other = match member(one, "direction").as_str() {
                "sent" => "target_id",
                _ => "source_id",
            };
            let columns = [
                "delegation_id",
                "direction",
                other,
                "status",
                "created_at",
                "task_preview",
            ];
            columns.iter().map(|name| member(one, name)).collect()
        };
        self.table(found, found, DELEGATIONS, row)
    }

    pub(super) fn inbox(self, inbox: &Value) -> anyhow::Result<Exit> {
        let messages = inbox.get("messages").unwrap_or(&Value::Null);
        self.table(inbox, messages, MESSAGES, message)
    }

    fn table(
        self,
        whole: &Value,
        found: &Value,
        headings: &[&str],
        row: impl Fn(&Value) -> Vec<String>,
    ) -> anyhow::Result<Exit> {
        if self.json {
            return line(&whole.to_string());
        }
        let rows: Vec<Vec<String>> = found.as_array().into_iter().flatten().map(row).collect();
        line(table(headings, &rows).trim_end())
    }

    /// A delegation that was accepted: its id alone, for scripts.
    pub(super) fn begun(self, answer: &Value) -> anyhow::Result<Exit> {
        if self.json {
            return line(&answer.to_string());
        }
        line(&member(answer, "delegation_id"))
    }

    /// Something that happened.
    pub(super) fn event(self, event: &Event) -> anyhow::Result<Exit> {
        if !self.json {
            return line(&said(event));
        }
        let whole = json!({
            "seq": event.id, "type": event.name, "timestamp": event.timestamp, "data": event.data,
        });
        line(&whole.to_string())
    }

    /// A delegation that ended: its result, or why there is none.
    pub(super) fn ended(self, view: &Value) -> anyhow::Result<Exit> {
        let completed = member(view, "status") == "completed";
        if self.json {
            line(&view.to_string())?;
        } else if completed {
            let result = member(view, "result");
            // A file or a pipe gets it as it is.
            let is_seen = std::io::stdout().is_terminal();
            line(&if is_seen { harmless(&result) } else { result })?;
        } else {
            let class = match member(view, "error_class") {
                class if class.is_empty() => class,
                class => format!(" ({class})"),
            };
            let (status, why) = (member(view, "status"), member(view, "error"));
            tell(&format!("{status}{class}: {why}"));
        }
        Ok(if completed {
            Exit::Done
        } else {
            Exit::Unsuccessful
        })
    }
}

/// What happened, in a line.
pub(super) fn said(event: &Event) -> String {
    let at = chrono::DateTime::from_timestamp_millis(event.timestamp).unwrap_or_default();
    let what = match member(&event.data, "status") {
        status if status.is_empty() => event.name.to_lowercase(),
        status => status,
    };
    let line = format!(
        "{}  {}  {what}{}",
        at.format("%H:%M:%SZ"),
        member(&event.data, "delegation_id"),
        details(&event.data),
    );
    in_one_line(&line)
}

/// What else is said of where a delegation stands.
pub(super) fn details(data: &Value) -> String {
    let percent = match member(data, "percent") {
        percent if percent.is_empty() => percent,
        percent => format!("  {percent}%"),
    };
    let names = [
        "message",
        "question",
        "waiting_for",
        "error",
        "reason",
        "task_preview",
    ];
    let said = names.iter().map(|name| member(data, name));
    let said = said.filter(|text| !text.is_empty()).take(1);
    said.fold(percent, |all, text| format!("{all}  {text}"))
}

/// A message of an inbox: who it is from, of which delegation it is, and what it says.
fn message(row: &Value) -> Vec<String> {
    let at = |path: &str| row.pointer(path).map(text).filter(|text| !text.is_empty());
    let first = |paths: &[&str]| paths.iter().find_map(|path| at(path)).unwrap_or_default();
    // A reply is the caller's own row; who answered is its target.
    let from = if at("/source_id") == at("/workspace_id") {
        "/target_id"
    } else {
        "/source_id"
    };
    vec![
        member(row, "seq"),
        member(row, "created_at"),
        first(&[from]),
        first(&[
            "/request_body/delegation_id",
            "/request_body/params/message/messageId",
        ]),
        first(&[
            "/request_body/parts/0/text",
            "/request_body/params/message/parts/0/text",
            "/response_body/result",
            "/summary",
        ]),
    ]
}

pub(super) fn member(value: &Value, name: &str) -> String {
    value.get(name).map_or_else(String::new, text)
}

/// A value as a person writes it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn line(text: &str) -> anyhow::Result<Exit> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_who_it_is_from_and_what_it_is_about() {
        let reply = json!({
            "seq": 3, "created_at": "t", "workspace_id": "own", "source_id": "own", "target_id": "worker",
            "request_body": {"delegation_id": "d", "parts": [{"kind": "text", "text": "1 2 3"}]},
        });
        assert_eq!(message(&reply), ["3", "t", "worker", "d", "1 2 3"]);
        let request = json!({
            "seq": 4, "created_at": "t", "workspace_id": "own", "source_id": "boss", "target_id": "own",
            "request_body": {"params": {"message": {"messageId": "e", "parts": [{"text": "count"}]}}},
        });
        assert_eq!(message(&request), ["4", "t", "boss", "e", "count"]);
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let event = Event {
            id: Some(1),
            name: "DELEGATION_STATUS".to_owned(),
            timestamp: 0,
            data: json!({"delegation_id": "a\nb", "status": "in_progress", "percent": 5, "message": "x\u{1b}y"}),
        };
        assert_eq!(said(&event), "00:00:00Z  a b  in_progress  5%  x\u{fffd}y");
    }
}
