//! Events: the newest, and as a stream (contract §12.2, §12.4).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, Sleep, sleep};

use super::answer::{self, inline, text};
use super::error::{ApiError, Fault};
use super::extract::{Admin, Member, NO_WORKSPACE, PathWorkspace, Query, Vigil};
use super::inbox::shown_to;
use super::openapi::{Limited, Unauthorised};
use super::state::{AppState, Stopping};
use crate::domain::{Position, WorkspaceId};
use crate::events::{Shown, Tail, Told};
use crate::store::EventView;

/// How often a quiet stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How often it is looked whether a stream's credential still holds.
const VIGIL: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Line<'a> {
    id: String,
    seq: i64,
    event_type: &'a str,
    workspace_id: Option<String>,
    payload: Option<&'a RawValue>,
    created_at: String,
}

impl<'a> From<&'a EventView> for Line<'a> {
    fn from(event: &'a EventView) -> Self {
        Self {
            id: event.id.to_string(),
            seq: event.position.0,
            event_type: &event.name,
            workspace_id: text(event.workspace),
            payload: inline(event.payload.as_ref()),
            created_at: event.created_at.to_rfc3339(),
        }
    }
}

/// The newest 100 events of all workspaces.
#[utoipa::path(get, path = "/events", tag = "events", security(("bearer" = [])), responses(
    (status = 200, description = "Newest first", body = Vec<serde_json::Value>), Unauthorised, Limited,
))]
pub(crate) async fn newest(
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    recent(&state, None).await
}

/// The newest 100 events of one workspace.
#[utoipa::path(get, path = "/events/{id}", tag = "events", params(("id" = String, Path, format = "uuid")),
    security(("bearer" = [])), responses(
    (status = 200, description = "Newest first", body = Vec<serde_json::Value>),
    (status = 400, description = "No UUID", body = serde_json::Value), Unauthorised, Limited,
))]
pub(crate) async fn newest_of(
    _admin: Admin,
    path: PathWorkspace,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let id = path.0.ok_or(ApiError::invalid("invalid workspace ID"))?;
    recent(&state, Some(id)).await
}

async fn recent(
    state: &AppState,
    workspace: Option<WorkspaceId>,
) -> Result<HttpResponse, ApiError> {
    let read = state
        .store
        .read(move |reader| reader.recent_events(workspace, 100));
    let events = read.await?;
    answer::ok(&events.iter().map(Line::from).collect::<Vec<_>>())
}

/// A workspace's events as they happen (server-sent events); resumes from `Last-Event-ID` without a gap.
#[utoipa::path(get, path = "/workspaces/{id}/events/stream", tag = "events", params(
    ("id" = String, Path, format = "uuid"),
    ("messages" = Option<bool>, Query, description = "`true`: with the inbox's messages, as `INBOX_MESSAGE`"),
    ("Last-Event-ID" = Option<i64>, Header, description = "The last `id` that was received"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The stream; it does not end by itself", body = String, content_type = "text/event-stream"),
    (status = 400, description = "`Last-Event-ID` is no place", body = serde_json::Value),
    (status = 404, description = "No such workspace", body = serde_json::Value), Unauthorised, Limited,
))]
pub(crate) async fn stream_of(
    request: HttpRequest,
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let after = last_event_id(&request)?;
    let id = member.workspace;
    let found = state.store.seat(id).await?;
    if !found.is_some_and(|workspace| workspace.is_present()) {
        return Err(NO_WORKSPACE);
    }
    let mut tail = Tail::follow(&state.store, &state.events, Some(id), after).await?;
    if query.is_true("messages") {
        tail = tail.with_messages(&state.events, id, shown_to(&state, member));
    }
    // Whoever is cut off before the first event goes on from here.
    let beginning = format!("id: {}\n: ping\n\n", tail.told()).into();
    let source = Source {
        tail,
        stopped: Box::pin(stopped(state.stopping.clone())),
        quiet: Box::pin(sleep(KEEP_ALIVE)),
        vigil: Vigil::over(&request, member.principal, &state),
        looked: Instant::now(),
        ready: VecDeque::from([beginning]),
    };
    let chunks = stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((Ok::<_, Infallible>(chunk), source))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(chunks)))
}

/// A malformed place would be a gap that nobody sees.
fn last_event_id(request: &HttpRequest) -> Result<Option<Position>, ApiError> {
    let Some(header) = request.headers().get("last-event-id") else {
        return Ok(None);
    };
    let place = header
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match place {
        Some(place @ 0_i64..) => Ok(Some(Position(place))),
        _ => Err(
            Fault::new("Last-Event-ID", "is not an id that this stream sent")
                .under("Last-Event-ID must be a non-negative integer"),
        ),
    }
}

struct Source {
    tail: Tail,
    stopped: Pin<Box<dyn Future<Output = ()>>>,
    quiet: Pin<Box<Sleep>>,
    vigil: Vigil,
    looked: Instant,
    ready: VecDeque<Bytes>,
}

impl Source {
    /// The next piece; none when the service goes down, the credential is void, or the store is away: a client that
    /// may comes back with its last id.
    async fn next(&mut self) -> Option<Bytes> {
        if self.looked.elapsed() >= VIGIL {
            if !self.vigil.holds().await {
                return None;
            }
            self.looked = Instant::now();
        }
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
        tokio::select! {
            biased;
            () = &mut self.stopped => None,
            told = self.tail.next() => match told {
                Ok(Told::Lagged) => Some(Bytes::from_static(b": lagged\n\n")),
                Ok(Told::Event(event)) => Some(frame(&event)),
                Err(error) => {
                    tracing::warn!(%error, "an event stream ended because it could not be read on");
                    None
                }
            },
            () = &mut self.quiet => Some(Bytes::from_static(b": ping\n\n")),
        }
    }
}

async fn stopped(stopping: Stopping) {
    stopping.wait().await;
}

/// JSON has no line breaks outside strings and none inside them, but stored JSON may be spaced: breaks become spaces.
/// Names need no escapes.
fn frame(event: &Shown) -> Bytes {
    let id = event.position.map(|place| format!("id: {place}\n"));
    let payload = event.payload.as_ref().map_or("null", |json| &json.0);
    let frame = format!(
        "{}data: {{\"type\":\"{}\",\"timestamp\":{},\"data\":{}}}\n\n",
        id.unwrap_or_default(),
        event.name,
        event.at.0.div_euclid(1000),
        in_one_line(payload),
    );
    frame.into()
}

fn in_one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Timestamp};

    #[test]
    fn a_recorded_event_carries_its_place_and_a_broadcast_one_none() {
        let mut event = Shown {
            position: Some(Position(7)),
            name: "DELEGATION_SENT".into(),
            workspace: Some(WorkspaceId::mint()),
            payload: Some(Json("{\n\"a\":1}".into())),
            at: Timestamp(1_999),
        };
        let data = "data: {\"type\":\"DELEGATION_SENT\",\"timestamp\":1,\"data\":{ \"a\":1}}\n\n";
        assert_eq!(frame(&event), format!("id: 7\n{data}"));
        event.position = None;
        assert_eq!(frame(&event), data);
    }
}
