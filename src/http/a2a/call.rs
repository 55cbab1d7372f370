//! Who speaks to which workspace, and for whom.

use std::cell::Cell;

use actix_web::{HttpRequest, web};
use serde_json::Value;

use super::problem::{Problem, Trouble};
use super::task::Seen;
use crate::auth::Principal;
use crate::domain::{DelegationId, DelegationKey, Position, Status, WorkspaceId};
use crate::events::{Tail, Told};
use crate::http::error::{ApiError, Door, Fault};
use crate::http::extract::{self, Member, NO_WORKSPACE};
use crate::http::middleware::turn;
use crate::http::state::AppState;
use crate::http::traceparent::traceparent;
use crate::http::workspace_creation::request_host;
use crate::persistence::{Errand, Ticket};
use crate::store::line;

/// What callers of the original named themselves who were no workspaces (contract §6.1).
const NO_CALLERS: [&str; 4] = ["webhook:", "system:", "test:", "channel:"];

/// What a request comes with, whatever it asks for.
pub(super) struct Call {
    pub(super) state: web::Data<AppState>,
    /// For whom it is: tasks are its own.
    pub(super) member: Member,
    /// The workspace whose endpoint this is.
    pub(super) target: WorkspaceId,
    /// Where this server is, as the client sees it.
    pub(super) base: String,
    /// The key against handing one message over twice.
    pub(super) key: Option<String>,
    pub(super) traceparent: Option<Box<str>>,
    /// Its share of the bodies in memory, until what it sent is handed over.
    pub(super) entered: Cell<Option<Ticket>>,
}

impl Call {
    pub(super) async fn of(request: &HttpRequest) -> Result<Self, ApiError> {
        let state = extract::state(request)?;
        let principal = extract::principal(request, &state, Door::Workspace).await?;
        let id = request.match_info().get("id").unwrap_or_default();
        let target = WorkspaceId::parse(id).ok_or(NO_WORKSPACE)?;
        let named = request.headers().get("x-workspace-id");
        let named = named.map(|value| value.to_str().unwrap_or_default());
        let named = named.filter(|text| !text.is_empty());
        if named.is_some_and(|text| NO_CALLERS.iter().any(|prefix| text.starts_with(prefix))) {
            return Err(ApiError::Forbidden {
                error: "invalid caller ID",
                reason: None,
            });
        }
        let workspace = caller(&state, principal, named, target).await?;
        let header = |name| request.headers().get(name)?.to_str().ok();
        let base = base(request, &state);
        Ok(Self {
            state,
            member: Member {
                principal,
                workspace,
            },
            target,
            base,
            key: header("idempotency-key")
                .filter(|key| !key.is_empty())
                .map(ToOwned::to_owned),
            traceparent: traceparent(request.headers()),
            entered: Cell::default(),
        })
    }

    /// Waits its turn to write, or is refused.
    pub(super) fn turn(&self, errand: Errand) -> Result<Ticket, ApiError> {
        turn(&self.state, self.member.principal, errand)
    }

    pub(super) fn key_of(&self, id: &str) -> DelegationKey {
        DelegationKey {
            caller: self.member.workspace,
            id: DelegationId::from_text(id),
        }
    }

    /// The task of this id that the caller handed to this workspace.
    pub(super) async fn seen(&self, id: &str) -> Result<Seen, Trouble> {
        let (key, target) = (self.key_of(id), self.target);
        let read = self
            .state
            .store
            .read(move |reader| Seen::read(reader, &key));
        let seen = read.await?;
        let own = seen.filter(|seen| seen.view.loaded.terms.target == Some(target));
        own.ok_or_else(|| Problem::no_such_task(id).into())
    }

    /// Where that task stands.
    pub(super) async fn status(&self, id: &str) -> Result<Status, Trouble> {
        let (key, target) = (self.key_of(id), self.target);
        let loaded = self
            .state
            .store
            .read(move |reader| reader.load(&key))
            .await?;
        let own = loaded.filter(|loaded| loaded.terms.target == Some(target));
        let own = own.ok_or_else(|| Problem::no_such_task(id))?;
        Ok(own.life.status())
    }

    /// The caller's events from now on, or from a place; one that lies in the future is now.
    pub(super) async fn tail(&self, after: Option<Position>) -> Result<Tail, Trouble> {
        let scope = Some(self.member.workspace);
        let after = match after {
            None => None,
            Some(place) => Some(place.min(self.state.outbox.place().await?)),
        };
        Ok(Tail::follow(&self.state.store, &self.state.events, scope, after).await?)
    }

    /// Until a task's state changes, or more is said of it; false when the service goes down before.
    pub(super) async fn news(&self, id: &str, tail: &mut Tail) -> Result<bool, Trouble> {
        loop {
            tokio::select! {
                () = self.state.stopping.wait() => return Ok(false),
                told = tail.next() => match told? {
                    Told::Lagged => return Ok(true),
                    Told::Event(event) => {
                        let payload = event.payload.as_ref().map_or("", |json| &json.0);
                        if event.name.starts_with("DELEGATION_") && payload_about(payload, id).is_some() {
                            return Ok(true);
                        }
                    }
                },
            }
        }
    }
}

/// The payload of an event, if it tells of this delegation.
pub(super) fn payload_about(payload: &str, id: &str) -> Option<Value> {
    // An id that JSON writes otherwise is not found so.
    let is_plain = !id.contains(|letter: char| letter.is_control() || matches!(letter, '"' | '\\'));
    if is_plain && !payload.contains(id) {
        return None;
    }
    let payload: Value = serde_json::from_str(payload).ok()?;
    (payload.get("delegation_id")?.as_str()? == id).then_some(payload)
}

/// For whom a request is: a workspace speaks for itself; the admin for whom it names, or for the root above the target.
async fn caller(
    state: &AppState,
    principal: Principal,
    named: Option<&str>,
    target: WorkspaceId,
) -> Result<WorkspaceId, ApiError> {
    let parsed = named.map(WorkspaceId::parse);
    match (principal, parsed) {
        (Principal::Workspace(id), None) => Ok(id),
        (Principal::Workspace(id), Some(Some(named))) if id == named => Ok(id),
        (Principal::Workspace(_), Some(_)) => {
            Err(ApiError::Unauthorized("invalid caller auth token"))
        }
        (Principal::Admin, Some(Some(named))) => Ok(named),
        (Principal::Admin, Some(None)) => Err(Fault::new("X-Workspace-ID", "is not a UUID")
            .under("X-Workspace-ID must be the id of the calling workspace")),
        (Principal::Admin, None) => {
            let above = state.store.look(move |find| line(find, target)).await?;
            above.last().copied().ok_or(NO_WORKSPACE)
        }
    }
}

/// Where clients reach this server: as it was told, or as this one did. A proxy's headers are not trusted.
pub(super) fn base(request: &HttpRequest, state: &AppState) -> String {
    match &*state.settings.public_url {
        "" => format!("http://{}", request_host(request)),
        url => url.trim_end_matches('/').to_owned(),
    }
}
