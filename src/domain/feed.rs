//! The rows and events that tell of a delegation (contract §4.6, §4.7, §12.1; product.md "Words" and rules 2-4, 10).

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::words::words;
use super::{
    ActivityId, DelegationId, DelegationKey, Ending, Life, NewDelegation, Origin, State, Status,
    Terms, Timestamp, Working, WorkspaceId, conversation, preview, sanitize,
};

mod produced;

pub use produced::produced_event;

/// The `method` of a request in an inbox.
pub const METHOD_SEND: &str = "message/send";
/// The `method` of the row that says a delegation began.
pub const METHOD_DELEGATE: &str = "delegate";
/// The `method` of a result row and of a reply.
pub const METHOD_DELEGATE_RESULT: &str = "delegate_result";

/// Room for most of what is serialised: to grow is to copy.
const ROOM: usize = 512;

/// JSON text, serialised once and shared from the row to the response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Json(pub Arc<str>);

impl Json {
    /// JSON text as a serialiser wrote it. Escaped NUL becomes U+FFFD: whoever makes `jsonb` of it would be
    /// refused (lesson U03).
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        // Most have no escape at all, which is found out sooner.
        if text.contains('\\') && text.contains("\\u0000") {
            Self(replace_escaped_nul(text).into())
        } else {
            Self(text.into())
        }
    }
}

impl Json {
    /// Serialises a value that has nothing that JSON cannot say; `null` stands for one that has.
    pub(crate) fn of(value: &impl Serialize) -> Self {
        let mut bytes = Vec::with_capacity(ROOM);
        let written = serde_json::to_writer(&mut bytes, value).ok();
        let text = written.and_then(|()| String::from_utf8(bytes).ok());
        text.map_or_else(|| Self("null".into()), |text| Self::from_text(&text))
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self::from_text(&value.to_string())
    }
}

/// `\u0000` is an escape only after an even number of backslashes.
fn replace_escaped_nul(text: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\\') {
        let (before, escape) = rest.split_at(start);
        replaced.push_str(before);
        if let Some(after) = escape.strip_prefix("\\u0000") {
            replaced.push('\u{fffd}');
            rest = after;
        } else {
            let end = escape
                .char_indices()
                .nth(2)
                .map_or(escape.len(), |(index, _)| index);
            let (pair, after) = escape.split_at(end);
            replaced.push_str(pair);
            rest = after;
        }
    }
    replaced.push_str(rest);
    replaced
}

words!(
    /// What a feed row is (contract §8.2).
    ActivityType {
    /// A message that the agent sent.
    A2aSend = "a2a_send",
    /// A message to the agent; the inbox is made of these.
    A2aReceive = "a2a_receive",
    /// Progress on a task.
    TaskUpdate = "task_update",
    /// The agent's own log.
    AgentLog = "agent_log",
    /// A skill was promoted.
    SkillPromotion = "skill_promotion",
    /// Something was remembered.
    MemoryWrite = "memory_write",
    /// Something went wrong.
    Error = "error",
    /// A delegation began or ended; written by Baton alone.
    Delegation = "delegation",
    }
);

/// A row to append to a workspace's feed (contract §3, `activity_logs`). Its position is given by the commit.
#[derive(Clone, PartialEq, Debug)]
pub struct FeedRow {
    /// An id of its own, by which it is known to be stored already; others are named after their place
    /// ([`ActivityId::of`]).
    pub id: Option<ActivityId>,
    /// Whose feed.
    pub workspace: WorkspaceId,
    /// What it is.
    pub activity_type: ActivityType,
    /// From whom; none from a person at the canvas.
    pub source: Option<WorkspaceId>,
    /// To whom, or who answered.
    pub target: Option<WorkspaceId>,
    /// What was called.
    pub method: Option<Box<str>>,
    /// One line for people.
    pub summary: Option<Box<str>>,
    /// What was asked.
    pub request_body: Option<Json>,
    /// What came of it.
    pub response_body: Option<Json>,
    /// How long it took.
    pub duration_ms: Option<i32>,
    /// `ok`, `error`, or the status of a delegation.
    pub status: Box<str>,
    /// What went wrong.
    pub error_detail: Option<Box<str>>,
    /// The delegation it tells of.
    pub delegation: Option<DelegationId>,
    /// When it was decided.
    pub created_at: Timestamp,
}

words!(
    /// The name of an event (contract §12.1, product.md "Routes that Baton adds").
    #[expect(missing_docs, reason = "the names are the contract's own words")]
    EventName {
    DelegationSent = "DELEGATION_SENT",
    DelegationStatus = "DELEGATION_STATUS",
    DelegationComplete = "DELEGATION_COMPLETE",
    DelegationFailed = "DELEGATION_FAILED",
    DelegationCancelled = "DELEGATION_CANCELLED",
    TaskMessage = "TASK_MESSAGE",
    TaskArtifact = "TASK_ARTIFACT",
    WorkspaceProvisioning = "WORKSPACE_PROVISIONING",
    WorkspaceProvisionFailed = "WORKSPACE_PROVISION_FAILED",
    WorkspaceOnline = "WORKSPACE_ONLINE",
    WorkspaceOffline = "WORKSPACE_OFFLINE",
    WorkspaceDegraded = "WORKSPACE_DEGRADED",
    WorkspaceAwaitingAgent = "WORKSPACE_AWAITING_AGENT",
    WorkspaceRemoved = "WORKSPACE_REMOVED",
    AgentCardUpdated = "AGENT_CARD_UPDATED",
    ActivityLogged = "ACTIVITY_LOGGED",
    AgentMessage = "AGENT_MESSAGE",
    TaskUpdated = "TASK_UPDATED",
    WorkspaceHeartbeat = "WORKSPACE_HEARTBEAT",
    }
);

/// An event to record (contract §3, `structure_events`). Its position is given by the commit.
#[derive(Clone, PartialEq, Debug)]
pub struct FeedEvent {
    /// What happened.
    pub name: EventName,
    /// To whom it is shown.
    pub workspace: WorkspaceId,
    /// The particulars.
    pub payload: Json,
    /// When it was decided.
    pub created_at: Timestamp,
    /// The delegation that it is found by later, if it tells what was said or made in the course of one.
    pub course_of: Option<DelegationId>,
}

/// What one change shows. The reply is apart because it may fail alone (rule 4).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Feed {
    /// Rows that stand or fall with the change.
    pub rows: Vec<FeedRow>,
    /// The reply to the caller's inbox, with the flag on.
    pub reply: Option<FeedRow>,
    /// Events that stand or fall with the change.
    pub events: Vec<FeedEvent>,
}

/// The `delegate` row and the `DELEGATION_SENT` event of a delegation that begins (contract §4.6 R1, R1r).
/// `target_as_sent` is the target in the caller's own spelling. An adopted delegation shows nothing before its ending.
#[must_use]
pub fn accepted_feed(delegation: &NewDelegation, target_as_sent: &str) -> Feed {
    let terms = &delegation.terms;
    if terms.origin == Origin::Adopted {
        return Feed::default();
    }
    let id = &terms.key.id;
    let status = Life::new(delegation.state.clone()).status();
    let row = FeedRow {
        summary: Some(format!("Delegating to {target_as_sent}").into()),
        request_body: Some(Json::of(&Body {
            task: Some(&delegation.task),
            ..Body::about(id)
        })),
        status: status.as_str().into(),
        ..delegation_row(terms, METHOD_DELEGATE, terms.created_at)
    };
    let payload = Body {
        target_id: Some(Some(target_as_sent)),
        task_preview: Some(preview(&delegation.task, 100)),
        ..Body::about(id)
    };
    Feed {
        rows: vec![row],
        reply: None,
        events: vec![event(
            terms,
            EventName::DelegationSent,
            Json::of(&payload),
            terms.created_at,
        )],
    }
}

/// Whether the change from `before` to `after` is worth telling: not that the target still works as before.
#[must_use]
pub fn is_news(before: &Life, after: &Life) -> bool {
    let progress = |life: &Life| match &life.state {
        State::Working(working) | State::Stuck(working) => working.progress.clone(),
        State::Pending | State::Queued(_) | State::InputRequired(_) | State::Ended(_) => None,
    };
    let waits = |life: &Life| match &life.state {
        State::Queued(wait) => Some((wait.waiting_for, wait.until)),
        State::Pending
        | State::Working(_)
        | State::Stuck(_)
        | State::InputRequired(_)
        | State::Ended(_) => None,
    };
    before.status() != after.status()
        || before.attempt != after.attempt
        || after.status().is_terminal()
        || progress(before) != progress(after)
        || waits(before) != waits(after)
}

/// The request in the inbox of a poll-mode target (contract §6.4), as the published poller reads it: `envelope` is the
/// whole `message/send`.
#[must_use]
pub fn request_row(terms: &Terms, envelope: Json, target: WorkspaceId, at: Timestamp) -> FeedRow {
    FeedRow {
        workspace: target,
        activity_type: ActivityType::A2aReceive,
        summary: Some(format!("{METHOD_SEND} \u{2192} {target} (queued for poll)").into()),
        request_body: Some(envelope),
        ..delegation_row(terms, METHOD_SEND, at)
    }
}

/// What the change from `before` to `after` shows: a status event, or with an ending the result row, the reply when
/// `push_reply`, and the final event. A late result shows nothing (rule 7).
#[must_use]
pub fn advanced_feed(
    terms: &Terms,
    before: &Life,
    after: &Life,
    push_reply: bool,
    at: Timestamp,
) -> Feed {
    let status = after.status();
    if before.status().is_terminal() || !is_news(before, after) {
        return Feed::default();
    }
    let State::Ended(ended) = &after.state else {
        let payload = status_payload(terms, after);
        let status = event(terms, EventName::DelegationStatus, payload, at);
        let said = conversation::said(terms, before, after, at);
        return Feed {
            events: [status].into_iter().chain(said).collect(),
            ..Feed::default()
        };
    };
    Feed {
        rows: vec![result_row(terms, &ended.ending, status, at)],
        reply: push_reply.then(|| reply_row(terms, &ended.ending, at)),
        events: vec![ending_event(terms, &ended.ending, at)],
    }
}

/// What rows and events say of a delegation, each as much of it as it needs.
#[derive(Serialize, Default)]
#[expect(clippy::option_option, reason = "left out, or `null`")]
struct Body<'a> {
    delegation_id: Option<&'a DelegationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_id: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_preview: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<[Part<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_preview: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Part<'a> {
    kind: &'static str,
    text: &'a str,
}

impl<'a> Body<'a> {
    fn about(delegation_id: &'a DelegationId) -> Self {
        Self {
            delegation_id: Some(delegation_id),
            ..Self::default()
        }
    }
}

fn status_payload(terms: &Terms, life: &Life) -> Json {
    let target = terms.target.map(|id| id.to_string());
    let mut body = Body {
        target_id: Some(target.as_deref()),
        status: Some(life.status().as_str()),
        ..Body::about(&terms.key.id)
    };
    match &life.state {
        State::Queued(wait) => body.waiting_for = Some(wait.waiting_for.as_str()),
        State::InputRequired(question) => body.question = Some(preview(&question.text, 1000)),
        State::Working(Working {
            progress: Some(progress),
            ..
        }) => {
            let message = progress.message.as_deref();
            body.message = message.map(|message| preview(message, 1000));
            body.percent = progress.percent;
        }
        State::Pending | State::Working(_) | State::Stuck(_) | State::Ended(_) => {}
    }
    Json::of(&body)
}

/// The authoritative `delegate_result` row: one for each ending (contract §4.6 R2, R4, R5 as product.md amends them).
fn result_row(terms: &Terms, ending: &Ending, status: Status, at: Timestamp) -> FeedRow {
    let mut body = Body::about(&terms.key.id);
    let summary: Cow<'_, str> = match ending {
        Ending::Completed { text } => {
            body.text = Some(text);
            format!("Delegation completed ({})", preview(text, 80)).into()
        }
        Ending::Failed { class, detail } => {
            body.error = Some(detail);
            body.error_class = Some(class.as_str());
            "Delegation failed".into()
        }
        Ending::Cancelled { reason } => {
            body.error = Some(reason);
            "Delegation cancelled".into()
        }
    };
    FeedRow {
        summary: Some(sanitize(&summary).into()),
        response_body: Some(Json::of(&body)),
        status: status.as_str().into(),
        error_detail: error_detail(ending),
        ..delegation_row(terms, METHOD_DELEGATE_RESULT, at)
    }
}

/// The reply to the caller's inbox (contract §4.7, product.md rule 10): a reader that knows only the published poller
/// rule finds the answer in the text part.
#[must_use]
pub fn reply_row(terms: &Terms, ending: &Ending, at: Timestamp) -> FeedRow {
    let id = &terms.key.id;
    let (summary, status, text) = match ending {
        Ending::Completed { text } => ("Delegation result delivered", "ok", text),
        Ending::Failed { detail, .. } => ("Delegation failed", "error", detail),
        Ending::Cancelled { reason } => ("Delegation cancelled", "error", reason),
    };
    let class = match ending {
        Ending::Failed { class, .. } => Some(class.as_str()),
        Ending::Completed { .. } | Ending::Cancelled { .. } => None,
    };
    let request = Body {
        parts: Some([Part { kind: "text", text }]),
        ..Body::about(id)
    };
    let response = Body {
        text: Some(text),
        error_class: class,
        ..Body::about(id)
    };
    FeedRow {
        activity_type: ActivityType::A2aReceive,
        summary: Some(summary.into()),
        request_body: Some(Json::of(&request)),
        response_body: Some(Json::of(&response)),
        status: status.into(),
        error_detail: error_detail(ending),
        ..delegation_row(terms, METHOD_DELEGATE_RESULT, at)
    }
}

fn ending_event(terms: &Terms, ending: &Ending, at: Timestamp) -> FeedEvent {
    let target = terms.target.map(|id| id.to_string());
    let mut body = Body {
        target_id: Some(target.as_deref()),
        ..Body::about(&terms.key.id)
    };
    let name = match ending {
        Ending::Completed { text } => {
            body.response_preview = Some(preview(text, 200));
            EventName::DelegationComplete
        }
        Ending::Failed { class, detail } => {
            body.error = Some(detail);
            body.error_class = Some(class.as_str());
            EventName::DelegationFailed
        }
        Ending::Cancelled { reason } => {
            body.reason = Some(reason);
            EventName::DelegationCancelled
        }
    };
    event(terms, name, Json::of(&body), at)
}

fn delegation_row(terms: &Terms, method: &str, at: Timestamp) -> FeedRow {
    let DelegationKey { caller, id } = &terms.key;
    FeedRow {
        id: None,
        workspace: *caller,
        activity_type: ActivityType::Delegation,
        source: Some(*caller),
        target: terms.target,
        method: Some(method.into()),
        summary: None,
        request_body: None,
        response_body: None,
        duration_ms: None,
        status: "ok".into(),
        error_detail: None,
        delegation: Some(id.clone()),
        created_at: at,
    }
}

fn event(terms: &Terms, name: EventName, payload: Json, at: Timestamp) -> FeedEvent {
    FeedEvent {
        name,
        workspace: terms.key.caller,
        payload,
        created_at: at,
        course_of: None,
    }
}

fn error_detail(ending: &Ending) -> Option<Box<str>> {
    match ending {
        Ending::Completed { .. } => None,
        Ending::Failed { detail: text, .. } | Ending::Cancelled { reason: text } => {
            (!text.is_empty()).then(|| sanitize(text).into())
        }
    }
}
