//! The inbox poller that agents run, written from its published rule alone (contract §15.1), to prove rule 10: a reader
//! that knows no more than this sees the answer.

use std::collections::HashSet;

use serde_json::Value;

use super::client::{Api, Workspace};

/// A poller with its cursor.
#[derive(Default)]
pub(crate) struct Poller {
    cursor: Option<String>,
    taken: HashSet<String>,
}

/// What the agent gets to see of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) peer_id: String,
    pub(crate) method: String,
    pub(crate) kind: Kind,
}

/// From whom the poller takes a message to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    PeerAgent,
    CanvasUser,
}

impl Poller {
    /// One round: asks, takes what is new, moves the cursor.
    pub(crate) async fn poll(&mut self, api: &Api, workspace: &Workspace) -> Vec<Message> {
        let window = match &self.cursor {
            Some(cursor) => format!("since_id={cursor}"),
            None => "since_secs=600".to_owned(),
        };
        let query = format!("type=a2a_receive&{window}");
        let reply = api.activity(workspace, &query).await;
        if reply.status == 410 {
            self.cursor = None;
            return Vec::new();
        }
        match reply.body {
            Value::Array(rows) if reply.status < 400 => self.take(rows),
            _ => Vec::new(),
        }
    }

    /// Polls until a round brings nothing.
    pub(crate) async fn drain(&mut self, api: &Api, workspace: &Workspace) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let before = self.cursor.clone();
            messages.extend(self.poll(api, workspace).await);
            if self.cursor == before {
                return messages;
            }
        }
    }

    /// Rows come oldest first with a cursor, newest first without.
    pub(crate) fn take(&mut self, mut rows: Vec<Value>) -> Vec<Message> {
        if self.cursor.is_none() {
            rows.reverse();
        }
        let mut messages = Vec::new();
        for row in &rows {
            let id = field(row, "id");
            self.cursor = Some(id.clone());
            let peer_id = field(row, "source_id");
            let method = field(row, "method");
            let own_notice = method == "notify" && peer_id.is_empty();
            if own_notice || !self.taken.insert(id.clone()) {
                continue;
            }
            let kind = if peer_id.is_empty() {
                Kind::CanvasUser
            } else {
                Kind::PeerAgent
            };
            messages.push(Message {
                id,
                text: text(row),
                peer_id,
                method,
                kind,
            });
        }
        messages
    }
}

fn field(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_default().to_owned()
}

/// The text parts of the first place that has some, else the summary.
fn text(row: &Value) -> String {
    let request = &row["request_body"];
    let places = [
        &request["params"]["message"]["parts"],
        &request["params"]["parts"],
        &request["parts"],
    ];
    let found = places
        .into_iter()
        .map(joined)
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| field(row, "summary"));
    if found.is_empty() {
        "(empty A2A message)".to_owned()
    } else {
        found
    }
}

fn joined(parts: &Value) -> String {
    let is_text = |part: &&Value| part["kind"] == "text" || part["type"] == "text";
    let parts = parts.as_array().into_iter().flatten().filter(is_text);
    parts.filter_map(|part| part["text"].as_str()).collect()
}
