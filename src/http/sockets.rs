//! `GET /ws`: events as frames (contract §12.3), for whoever has a credential.

mod opening;

use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::header::ORIGIN;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_ws::{CloseCode, CloseReason, Message, MessageStream, Session};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::answer::{inline, text};
use super::error::{ApiError, Fault};
use super::extract::{Member, Query, Vigil};
use super::inbox::shown_to;
use super::middleware::own_or_allowed;
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use crate::auth::Principal;
use crate::clock;
use crate::domain::{Kinship, Position, WorkspaceId, kinship};
use crate::events::{Shown, Tail, Told};
use crate::store::{self, line};
use opening::{Opener, PROTOCOL};

/// How long it is taken as known who may see whom.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// How many answers to that are kept for one socket.
const KNOWN: usize = 10_000;
/// How often a socket is asked whether it lives, and its credential whether it holds.
const PING: Duration = Duration::from_secs(20);
/// After how long a silent one is given up.
const SILENCE: Duration = Duration::from_secs(70);

#[derive(Serialize)]
struct Frame<'a> {
    event: &'a str,
    workspace_id: Option<String>,
    timestamp: String,
    payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
}

impl<'a> From<&'a Shown> for Frame<'a> {
    fn from(event: &'a Shown) -> Self {
        Self {
            event: &event.name,
            workspace_id: text(event.workspace),
            timestamp: event.at.to_rfc3339(),
            payload: inline(event.payload.as_ref()),
            seq: event.position.map(|place| place.0),
        }
    }
}

/// Events as WebSocket frames: all of them for the admin, else those of workspaces that may communicate with one's own.
#[utoipa::path(get, path = "/ws", tag = "events", params(
    ("after_seq" = Option<i64>, Query, description = "Begin after this `seq` instead of now"),
    ("messages" = Option<bool>, Query, description = "`true`: with the messages in one's own inbox, as `INBOX_MESSAGE`"),
    ("Sec-WebSocket-Protocol" = Option<String>, Header, description = "`baton, bearer.` and the token in base64url without padding, for browsers, which cannot set `Authorization`"),
), security(("bearer" = [])), responses(
    (status = 101, description = "The socket is open"),
    (status = 400, description = "No WebSocket handshake, `after_seq` is no place, or the admin asks for messages", body = serde_json::Value),
    (status = 403, description = "A foreign browser origin"), Unauthorised, Limited,
))]
pub(crate) async fn open(
    request: HttpRequest,
    payload: web::Payload,
    opener: Opener,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    if let Some(origin) = request.headers().get(ORIGIN) {
        let allowed = &state.settings.cors_origins;
        if !own_or_allowed(origin.as_bytes(), request.headers(), allowed) {
            return Ok(HttpResponse::Forbidden().finish());
        }
    }
    let after = after(&query)?;
    let reader = reader(&query, opener.principal)?;
    let mut tail = Tail::follow(&state.store, &state.events, None, after).await?;
    if let Some(reader) = reader {
        let show = shown_to(&state, reader);
        tail = tail.with_messages(&state.events, reader.workspace, show);
    }
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&request, payload, &[PROTOCOL])
            .map_err(|error| ApiError::invalid(format!("not a WebSocket handshake: {error}")))?;
    let socket = Socket {
        vigil: opener.vigil,
        state,
        tail,
        speaker: opener.principal,
        visible: HashMap::new(),
    };
    actix_web::rt::spawn(socket.run(session, messages));
    Ok(response)
}

/// Who reads an inbox on this socket, if anybody.
fn reader(query: &Query, principal: Principal) -> Result<Option<Member>, ApiError> {
    if !query.is_true("messages") {
        return Ok(None);
    }
    let Principal::Workspace(workspace) = principal else {
        return Err(
            Fault::new("messages", "needs a workspace's own token").under("the admin has no inbox")
        );
    };
    Ok(Some(Member {
        principal,
        workspace,
    }))
}

fn after(query: &Query) -> Result<Option<Position>, ApiError> {
    let Some(text) = query.get("after_seq") else {
        return Ok(None);
    };
    match text.parse::<i64>() {
        Ok(place) if place >= 0 => Ok(Some(Position(place))),
        _ => Err(
            Fault::new("after_seq", "is not a whole number of at least 0")
                .under("after_seq must be a non-negative integer"),
        ),
    }
}

struct Socket {
    state: web::Data<AppState>,
    tail: Tail,
    vigil: Vigil,
    speaker: Principal,
    visible: HashMap<WorkspaceId, (bool, Instant)>,
}

impl Socket {
    async fn run(mut self, mut session: Session, messages: MessageStream) {
        let reason = self.relay(&mut session, messages).await;
        // Whoever has gone needs no farewell.
        drop(session.close(reason).await);
    }

    /// Relays until somebody goes; what to say then.
    async fn relay(
        &mut self,
        session: &mut Session,
        mut messages: MessageStream,
    ) -> Option<CloseReason> {
        let state = self.state.clone();
        let mut ping = tokio::time::interval(PING);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                () = state.stopping.wait() => return Some(CloseCode::Away.into()),
                message = messages.next() => match message {
                    Some(Ok(Message::Ping(bytes))) => session.pong(&bytes).await.ok()?,
                    Some(Ok(Message::Close(reason))) => return reason,
                    // Scripts in browsers see no pings of the protocol, and must know whether a quiet line lives.
                    Some(Ok(Message::Text(text))) if &*text == "ping" => {
                        heard = Instant::now();
                        session.text("pong").await.ok()?;
                    }
                    Some(Ok(_ignored)) => heard = Instant::now(),
                    Some(Err(_)) | None => return None,
                },
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        return None;
                    }
                    if !self.vigil.holds().await {
                        return Some(CloseCode::Policy.into());
                    }
                    session.ping(b"").await.ok()?;
                }
                told = self.tail.next() => match self.frame(told).await {
                    Ok(None) => {}
                    // One that takes nothing for so long is as good as gone.
                    Ok(Some(frame)) => tokio::time::timeout(SILENCE, session.text(frame)).await.ok()?.ok()?,
                    Err(error) => {
                        tracing::warn!(%error, "a socket was closed because the store could not be read");
                        return Some(CloseCode::Again.into());
                    }
                },
            }
        }
    }

    /// The frame of what is told, unless it is not for these eyes.
    async fn frame(
        &mut self,
        told: Result<Told, store::Error>,
    ) -> Result<Option<String>, store::Error> {
        let event = match told? {
            Told::Lagged => return Ok(serde_json::to_string(&lagged()).ok()),
            Told::Event(event) => event,
        };
        if !self.may_see(event.workspace).await? {
            return Ok(None);
        }
        Ok(serde_json::to_string(&Frame::from(&event)).ok())
    }

    async fn may_see(&mut self, workspace: Option<WorkspaceId>) -> Result<bool, store::Error> {
        let own = match self.speaker {
            Principal::Admin => return Ok(true),
            Principal::Workspace(own) => own,
        };
        let Some(other) = workspace else {
            return Ok(false);
        };
        if own == other {
            return Ok(true);
        }
        if let Some((visible, since)) = self.visible.get(&other)
            && since.elapsed() < KNOWN_FOR
        {
            return Ok(*visible);
        }
        let visible = related(&self.state.store, own, other).await?;
        if self.visible.len() >= KNOWN {
            self.visible.clear();
        }
        self.visible.insert(other, (visible, Instant::now()));
        Ok(visible)
    }
}

/// Whether two workspaces may communicate (contract §9.5).
pub(crate) async fn related(
    store: &store::Store,
    one: WorkspaceId,
    other: WorkspaceId,
) -> Result<bool, store::Error> {
    let lines = store.look(move |find| Ok((line(find, one)?, line(find, other)?)));
    let (own, peer) = lines.await?;
    Ok(matches!(
        kinship(&own, &peer),
        Kinship::Same | Kinship::Related
    ))
}

/// Says that events which were not recorded are lost; recorded ones follow.
fn lagged() -> Frame<'static> {
    Frame {
        event: "LAGGED",
        workspace_id: None,
        timestamp: clock::now().to_rfc3339(),
        payload: None,
        seq: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Timestamp};

    #[test]
    fn a_frame_has_the_contracts_members_and_a_place_when_recorded() {
        let workspace = WorkspaceId::mint();
        let mut event = Shown {
            position: None,
            name: "WORKSPACE_HEARTBEAT".into(),
            workspace: Some(workspace),
            payload: Some(Json("{}".into())),
            at: Timestamp(0),
        };
        let frame = |event: &Shown| serde_json::to_value(Frame::from(event)).unwrap();
        assert_eq!(
            frame(&event),
            serde_json::json!({
                "event": "WORKSPACE_HEARTBEAT", "workspace_id": workspace.to_string(),
                "timestamp": "1970-01-01T00:00:00Z", "payload": {},
            })
        );
        event.position = Some(Position(3));
        assert_eq!(frame(&event)["seq"], 3);
        assert!(after(&Query::parse("after_seq=-1")).is_err());
        let query = Query::parse("messages=true");
        let whose = |principal| reader(&query, principal).ok().flatten();
        let own = whose(Principal::Workspace(workspace)).map(|reader| reader.workspace);
        assert_eq!(
            (own, whose(Principal::Admin).is_none()),
            (Some(workspace), true)
        );
    }
}
