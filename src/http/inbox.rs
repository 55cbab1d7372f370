//! The inbox: what an agent has not acknowledged, and messages from its workspace to people (contract §8.3, §16.4).

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::activity::{Row, append, unexpected};
use super::answer;
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Member, NO_WORKSPACE, Query};
use super::fetched;
use super::openapi::{AckBody, Limited, NotifyBody, Refused, Unauthorised};
use super::state::AppState;
use crate::clock;
use crate::domain::{
    ActivityId, ActivityType, EventName, FeedRow, Json, Position, WorkspaceId, WorkspaceStatus,
};
use crate::events::{Message, Notice, ShowMessage, Subscription, Topic};
use crate::store::{ActivityView, Write, Written};

/// The longest wait for a first message.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// The oldest unacknowledged messages, waiting for the first if there is none.
#[utoipa::path(get, path = "/workspaces/{id}/inbox", tag = "feed", params(
    ("id" = String, Path, format = "uuid"),
    ("limit" = Option<i64>, Query, description = "At most 500; 100 when absent or senseless"),
    ("wait" = Option<i64>, Query, description = "Seconds to wait for the first message, at most 60"),
    ("peek" = Option<bool>, Query, description = "`true`: only a look; what is shown does not count as fetched"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`messages`, oldest first, and `last_acked_seq`", body = Value),
    (status = 400, description = "`wait` cannot be read", body = Value),
    (status = 404, description = "No such workspace", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn inbox(
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit(100, 500);
    let wait = wait(&query)?;
    let takes = !query.is_true("peek");
    member.must_exist(&state).await?;
    // Interest comes before the look, so that no message falls between the two.
    let mut subscription =
        (!wait.is_zero()).then(|| state.events.subscribe(Topic::Feed, Some(member.workspace)));
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let (acknowledged, rows) = state.store.inbox(member.workspace, limit).await?;
        let over = tokio::time::Instant::now() >= deadline;
        let Some(subscription) = subscription.as_mut().filter(|_| rows.is_empty() && !over) else {
            if takes {
                fetched::tell(&state, &member, &rows);
            }
            return answer::ok(&shown(&rows, acknowledged));
        };
        tokio::select! {
            () = message(subscription, ActivityType::A2aReceive) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = state.stopping.wait() => {
                return answer::ok(&json!({"messages": [], "last_acked_seq": acknowledged.0}));
            }
        }
    }
}

/// The oldest messages that are not acknowledged; whoever looks has them, and the delegations they ask for move on.
pub(crate) async fn unacknowledged(
    state: &AppState,
    member: &Member,
    limit: i64,
) -> Result<Value, ApiError> {
    let (acknowledged, rows) = state.store.inbox(member.workspace, limit).await?;
    fetched::tell(state, member, &rows);
    Ok(shown(&rows, acknowledged))
}

fn shown(rows: &[ActivityView], acknowledged: Position) -> Value {
    let messages: Vec<_> = rows.iter().map(Row::from).collect();
    json!({"messages": messages, "last_acked_seq": acknowledged.0})
}

/// Messages, as a stream shows them to this reader; whoever was shown one has it.
pub(crate) fn shown_to(state: &web::Data<AppState>, reader: Member) -> ShowMessage {
    let state = state.clone();
    Box::new(move |message| {
        fetched::tell(&state, &reader, std::slice::from_ref(message));
        Json::of(&Row::from(message))
    })
}

fn wait(query: &Query) -> Result<Duration, ApiError> {
    let Some(text) = query.get("wait") else {
        return Ok(Duration::ZERO);
    };
    let seconds: u64 = text.parse().map_err(|_unreadable| {
        Fault::new("wait", "is not a whole number of at least 0")
            .under("wait must be a number of seconds from 0 to 60")
    })?;
    Ok(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Until the feed may have grown by a row of this type.
pub(crate) async fn message(subscription: &mut Subscription, wanted: ActivityType) {
    loop {
        match subscription.next().await {
            Notice::Lagged | Notice::Grown => return,
            Notice::Message(message) => match &*message {
                Message::Feed { activity_type, .. } if *activity_type == wanted => return,
                Message::Feed { .. } | Message::Event { .. } => {}
            },
        }
    }
}

/// Acknowledges everything up to a place. It only grows, never beyond what exists.
#[utoipa::path(post, path = "/workspaces/{id}/activity/ack", tag = "feed", params(("id" = String, Path, format = "uuid")),
    request_body = AckBody, security(("bearer" = [])), responses(
    (status = 200, description = "The place that is acknowledged now", body = Value), Refused, Limited,
))]
pub(crate) async fn acknowledge(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let required = |fault: Fault| fault.under("acked_seq is required");
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(required)?;
    let place = fields.integer("acked_seq").map_err(required)?;
    let place = place.ok_or_else(|| required(Fault::new("acked_seq", "is absent")))?;
    if place < 0 {
        return Err(Fault::new("acked_seq", "is negative").under("acked_seq must be >= 0"));
    }
    answer::ok(&acknowledge_up_to(&state, &member, Position(place)).await?)
}

/// Acknowledges up to a place; says up to which it is.
pub(crate) async fn acknowledge_up_to(
    state: &AppState,
    member: &Member,
    upto: Position,
) -> Result<Value, ApiError> {
    member.must_exist(state).await?;
    let write = Write::Acknowledge {
        workspace: member.workspace,
        upto,
    };
    match state.persistence.write(write).await? {
        Written::Acknowledged(position) => Ok(json!({"last_acked_seq": position.0})),
        Written::Missing => Err(NO_WORKSPACE),
        other => Err(unexpected(&other)),
    }
}

/// A message from an agent to people.
#[utoipa::path(post, path = "/workspaces/{id}/notify", tag = "feed", params(("id" = String, Path, format = "uuid")),
    request_body = NotifyBody, security(("bearer" = [])), responses(
    (status = 200, description = "Committed, then shown", body = Value), Refused, Limited,
))]
pub(crate) async fn notify(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let (message, attachments) = message_of(&body)?;
    tell_people(&state, member.workspace, &message, attachments).await?;
    answer::ok(&json!({"status": "sent"}))
}

/// Adds a message to the workspace's own feed, and shows it at the canvas.
pub(crate) async fn tell_people(
    state: &AppState,
    id: WorkspaceId,
    message: &str,
    attachments: Vec<Value>,
) -> Result<(), ApiError> {
    let workspace = state.store.read(move |reader| reader.workspace(id)).await?;
    let workspace = workspace.filter(|found| found.status != WorkspaceStatus::Removed);
    let name = workspace.ok_or(NO_WORKSPACE)?.name;
    append(state, notice(id, message, &attachments)).await?;
    let mut shown = json!({"message": message, "workspace_id": id.to_string(), "name": name});
    if let (Value::Object(members), false) = (&mut shown, attachments.is_empty()) {
        members.insert("attachments".to_owned(), attachments.into());
    }
    state.events.publish(Message::Event {
        place: None,
        name: EventName::AgentMessage,
        workspace: id,
        payload: Json::from(&shown),
        at: clock::now(),
    });
    Ok(())
}

fn message_of(body: &[u8]) -> Result<(String, Vec<Value>), ApiError> {
    let required = |fault: Fault| fault.under("message is required");
    let fields = Fields::parse(body).map_err(required)?;
    let message = fields.required_text("message").map_err(required)?;
    let attachments = match fields.value("attachments") {
        None => Vec::new(),
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(index, item)| attachment(index, item))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(required(Fault::new("attachments", "must be an array"))),
    };
    Ok((message, attachments))
}

fn attachment(index: usize, item: &Value) -> Result<Value, ApiError> {
    let refusal = || ApiError::invalid(format!("attachment[{index}]: uri and name are required"));
    let fields = Fields::from(item.as_object().ok_or_else(refusal)?.clone());
    let text = |name| fields.required_text(name).map_err(|_absent| refusal());
    let mut file = json!({"uri": text("uri")?, "name": text("name")?});
    if let Value::Object(members) = &mut file {
        if let Ok(Some(kind)) = fields.text("mimeType") {
            members.insert("mimeType".to_owned(), kind.into());
        }
        if let Ok(Some(size)) = fields.integer("size") {
            members.insert("size".to_owned(), size.into());
        }
    }
    Ok(file)
}

fn notice(workspace: WorkspaceId, message: &str, attachments: &[Value]) -> FeedRow {
    let mut response = json!({"result": message});
    if let (Value::Object(members), false) = (&mut response, attachments.is_empty()) {
        let parts = attachments
            .iter()
            .map(|file| json!({"kind": "file", "file": file}));
        members.insert("parts".to_owned(), parts.collect());
    }
    FeedRow {
        id: Some(ActivityId::mint()),
        workspace,
        activity_type: ActivityType::A2aReceive,
        source: None,
        target: None,
        method: Some("notify".into()),
        summary: Some(format!("Agent message: {}", shortened(message)).into()),
        request_body: None,
        response_body: Some(Json::from(&response)),
        duration_ms: None,
        status: "ok".into(),
        error_detail: None,
        delegation: None,
        created_at: clock::now(),
    }
}

/// At most 80 bytes, cut between characters, and `…` (contract §1.6).
fn shortened(message: &str) -> String {
    if message.len() <= 80 {
        return message.to_owned();
    }
    let (kept, _) = message.split_at(message.floor_char_boundary(80));
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_shortened_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"🦀".repeat(21));
        assert_eq!(cut, format!("{}…", "🦀".repeat(20)));
    }

    #[test]
    fn an_attachment_needs_uri_and_name() {
        let (message, files) = message_of(
            br#"{"message":"m","attachments":[{"uri":"u","name":"n","size":3,"other":1}]}"#,
        )
        .unwrap();
        assert_eq!(
            (message.as_str(), files),
            ("m", vec![json!({"uri": "u", "name": "n", "size": 3})])
        );
        let refusal =
            message_of(br#"{"message":"m","attachments":[{"uri":"u","name":"n"},{"uri":""}]}"#);
        assert_eq!(
            refusal.unwrap_err().to_string(),
            "attachment[1]: uri and name are required"
        );
        assert_eq!(
            message_of(b"{}").unwrap_err().to_string(),
            "message is required"
        );
    }

    #[test]
    fn a_wait_is_at_most_a_minute() {
        let read = |query: &str| wait(&Query::parse(query)).ok();
        assert_eq!(read(""), Some(Duration::ZERO));
        assert_eq!(read("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(read("wait=3600"), Some(MAX_WAIT));
        assert_eq!(read("wait=-1"), None);
        assert_eq!(read("wait=soon"), None);
    }
}
