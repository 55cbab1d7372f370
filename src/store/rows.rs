//! Workspaces, feed rows and events as rows, and back.

use std::borrow::Cow;

use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};

use super::life::word;
use super::schema::{activity_logs, structure_events, workspace_auth_tokens, workspaces};
use super::types::{Id, J, Ts};
use super::{ActivityView, Error, EventView, NewToken, Registration, TokenView, WorkspacePatch};
use crate::domain::{
    ActivityId, DelegationId, DelegationKey, DeliveryMode, EventId, FeedEvent, FeedRow,
    METHOD_DELEGATE, METHOD_DELEGATE_RESULT, METHOD_SEND, Position, SealedCredential, Status,
    Timestamp, TokenId, WaitingFor, Workspace, WorkspaceId, WorkspaceStatus, sanitize,
};
use crate::store::life::id_text;

fn clean(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(sanitize)
}

/// A workspace, written and read.
#[derive(Queryable, Selectable, Insertable, Clone, Debug)]
#[diesel(table_name = workspaces, treat_none_as_default_value = false)]
pub(crate) struct WorkspaceRow {
    id: Id,
    name: String,
    role: Option<String>,
    tier: i32,
    status: String,
    agent_card: Option<J>,
    url: Option<String>,
    credentials: Option<String>,
    parent_id: Option<Id>,
    runtime: String,
    delivery_mode: String,
    max_concurrent_tasks: i32,
    can_delegate: bool,
    last_heartbeat_at: Option<Ts>,
    last_error_rate: f64,
    last_sample_error: Option<String>,
    active_tasks: i32,
    uptime_seconds: i32,
    current_task: Option<String>,
    monthly_spend: i64,
    x: f64,
    y: f64,
    collapsed: bool,
    last_outbound_at: Option<Ts>,
    created_at: Ts,
    updated_at: Ts,
}

fn owned(text: &str) -> String {
    sanitize(text).into_owned()
}

impl From<&Workspace> for WorkspaceRow {
    fn from(workspace: &Workspace) -> Self {
        Self {
            id: Id(workspace.id.0),
            name: owned(&workspace.name),
            role: workspace.role.as_deref().map(owned),
            tier: workspace.tier,
            status: workspace.status.as_str().to_owned(),
            agent_card: workspace.agent_card.as_ref().map(J::from),
            url: workspace.url.as_deref().map(owned),
            credentials: workspace
                .credentials
                .as_ref()
                .map(|sealed| sealed.0.to_string()),
            parent_id: workspace.parent.map(|parent| Id(parent.0)),
            runtime: owned(&workspace.runtime),
            delivery_mode: workspace.delivery_mode.as_str().to_owned(),
            max_concurrent_tasks: workspace.max_concurrent_tasks,
            can_delegate: workspace.can_delegate,
            last_heartbeat_at: workspace.last_heartbeat_at.map(Ts::from),
            last_error_rate: workspace.last_error_rate,
            last_sample_error: workspace.last_sample_error.as_deref().map(owned),
            active_tasks: workspace.active_tasks,
            uptime_seconds: workspace.uptime_seconds,
            current_task: workspace.current_task.as_deref().map(owned),
            monthly_spend: workspace.monthly_spend,
            x: workspace.x,
            y: workspace.y,
            collapsed: workspace.collapsed,
            last_outbound_at: workspace.last_outbound_at.map(Ts::from),
            created_at: workspace.created_at.into(),
            updated_at: workspace.updated_at.into(),
        }
    }
}

impl WorkspaceRow {
    pub(crate) fn read(self) -> Result<Workspace, Error> {
        Ok(Workspace {
            id: WorkspaceId(self.id.0),
            name: self.name,
            role: self.role,
            tier: self.tier,
            status: word("status", &self.status, WorkspaceStatus::parse)?,
            agent_card: self.agent_card.map(Into::into),
            url: self.url,
            credentials: self
                .credentials
                .map(|sealed| SealedCredential(sealed.into())),
            parent: self.parent_id.map(|id| WorkspaceId(id.0)),
            runtime: self.runtime,
            delivery_mode: word("delivery_mode", &self.delivery_mode, DeliveryMode::parse)?,
            max_concurrent_tasks: self.max_concurrent_tasks,
            can_delegate: self.can_delegate,
            last_heartbeat_at: self.last_heartbeat_at.map(Timestamp::from),
            last_error_rate: self.last_error_rate,
            last_sample_error: self.last_sample_error,
            active_tasks: self.active_tasks,
            uptime_seconds: self.uptime_seconds,
            current_task: self.current_task,
            monthly_spend: self.monthly_spend,
            x: self.x,
            y: self.y,
            collapsed: self.collapsed,
            last_outbound_at: self.last_outbound_at.map(Timestamp::from),
            created_at: self.created_at.into(),
            updated_at: self.updated_at.into(),
        })
    }
}

/// For Diesel: `None` leaves alone, `Some(None)` is NULL.
#[expect(
    clippy::option_option,
    reason = "for Diesel the outer leaves alone, the inner is NULL"
)]
pub(crate) fn sealed(
    credentials: Option<&Option<SealedCredential>>,
) -> Option<Option<Cow<'_, str>>> {
    credentials.map(|sealed| clean(sealed.as_ref().map(|sealed| &*sealed.0)))
}

/// Whether both addresses are of the same scheme, host and port.
pub(crate) fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |address: &str| url::Url::parse(address).ok().map(|url| url.origin());
    one == other || origin(one).is_some_and(|own| origin(other) == Some(own))
}

/// The workspace that a registration makes when there is none (contract §9.1).
pub(crate) fn registered(registration: &Registration) -> Workspace {
    Workspace {
        id: registration.id,
        name: registration.id.to_string(),
        role: None,
        tier: 3,
        status: WorkspaceStatus::Online,
        agent_card: Some(registration.agent_card.clone()),
        url: registration.url.clone(),
        credentials: registration.credentials.clone().flatten(),
        parent: None,
        runtime: "external".to_owned(),
        delivery_mode: registration.delivery_mode,
        max_concurrent_tasks: 0,
        can_delegate: true,
        last_heartbeat_at: Some(registration.at),
        last_error_rate: 0.0,
        last_sample_error: None,
        active_tasks: 0,
        uptime_seconds: 0,
        current_task: None,
        monthly_spend: 0,
        x: 0.0,
        y: 0.0,
        collapsed: false,
        last_outbound_at: None,
        created_at: registration.at,
        updated_at: registration.at,
    }
}

/// The fields of a workspace that a patch names; the others are left alone.
#[derive(AsChangeset, Debug)]
#[diesel(table_name = workspaces)]
#[expect(
    clippy::option_option,
    reason = "for Diesel the outer leaves alone, the inner is NULL"
)]
pub(crate) struct PatchRow<'a> {
    name: Option<Cow<'a, str>>,
    role: Option<Option<Cow<'a, str>>>,
    tier: Option<i32>,
    status: Option<&'static str>,
    agent_card: Option<J>,
    credentials: Option<Option<Cow<'a, str>>>,
    parent_id: Option<Option<Id>>,
    runtime: Option<Cow<'a, str>>,
    max_concurrent_tasks: Option<i32>,
    can_delegate: Option<bool>,
    last_heartbeat_at: Option<Ts>,
    last_error_rate: Option<f64>,
    last_sample_error: Option<Cow<'a, str>>,
    active_tasks: Option<i32>,
    uptime_seconds: Option<i32>,
    current_task: Option<Cow<'a, str>>,
    monthly_spend: Option<i64>,
    x: Option<f64>,
    y: Option<f64>,
    collapsed: Option<bool>,
    updated_at: Ts,
}

impl<'a> PatchRow<'a> {
    pub(crate) fn of(patch: &'a WorkspacePatch, at: Timestamp) -> Self {
        let beat = patch.heartbeat.as_ref();
        Self {
            name: clean(patch.name.as_deref()),
            role: patch.role.as_ref().map(|role| clean(role.as_deref())),
            tier: patch.tier,
            status: patch.status.map(WorkspaceStatus::as_str),
            agent_card: patch.agent_card.as_ref().map(J::from),
            credentials: sealed(patch.credentials.as_ref()),
            parent_id: patch.parent.map(|parent| parent.map(|id| Id(id.0))),
            runtime: clean(patch.runtime.as_deref()),
            max_concurrent_tasks: patch.max_concurrent_tasks,
            can_delegate: patch.can_delegate,
            last_heartbeat_at: beat.map(|beat| beat.at.into()),
            last_error_rate: beat.map(|beat| beat.error_rate),
            last_sample_error: beat.map(|beat| sanitize(&beat.sample_error)),
            active_tasks: beat.map(|beat| beat.active_tasks),
            uptime_seconds: beat.map(|beat| beat.uptime_seconds),
            current_task: beat.map(|beat| sanitize(&beat.current_task)),
            monthly_spend: beat.and_then(|beat| beat.monthly_spend),
            x: patch.place.map(|(x, _)| x),
            y: patch.place.map(|(_, y)| y),
            collapsed: patch.collapsed,
            updated_at: at.into(),
        }
    }
}

/// A token to insert.
#[derive(Insertable, Debug)]
#[diesel(table_name = workspace_auth_tokens)]
pub(crate) struct TokenRow<'a> {
    id: Id,
    workspace_id: Id,
    token_hash: &'a [u8],
    prefix: Cow<'a, str>,
    created_at: Ts,
}

impl<'a> From<&'a NewToken> for TokenRow<'a> {
    fn from(token: &'a NewToken) -> Self {
        Self {
            id: Id(token.id.0),
            workspace_id: Id(token.workspace.0),
            token_hash: &token.hash,
            prefix: sanitize(&token.prefix),
            created_at: token.created_at.into(),
        }
    }
}

/// A token as listed.
pub(crate) type TokenTuple = (Id, String, Ts, Option<Ts>);

pub(crate) fn read_token((id, prefix, created_at, last_used_at): TokenTuple) -> TokenView {
    TokenView {
        id: TokenId(id.0),
        prefix,
        created_at: created_at.into(),
        last_used_at: last_used_at.map(Into::into),
    }
}

/// A feed row to insert.
#[derive(Insertable, Debug)]
#[diesel(table_name = activity_logs, treat_none_as_default_value = false)]
pub(crate) struct ActivityRow<'a> {
    pub(crate) id: Option<Id>,
    pub(crate) seq: i64,
    pub(crate) workspace_id: Id,
    pub(crate) activity_type: &'static str,
    pub(crate) source_id: Option<Id>,
    pub(crate) target_id: Option<Id>,
    pub(crate) method: Option<Cow<'a, str>>,
    pub(crate) summary: Option<Cow<'a, str>>,
    pub(crate) request_body: Option<J>,
    pub(crate) response_body: Option<J>,
    pub(crate) duration_ms: Option<i32>,
    pub(crate) status: Cow<'a, str>,
    pub(crate) error_detail: Option<Cow<'a, str>>,
    pub(crate) delegation_id: Option<Cow<'a, str>>,
    pub(crate) created_at: Ts,
    pub(crate) delegation_number: Option<i64>,
}

impl<'a> ActivityRow<'a> {
    /// `of` is the number of the delegation that it tells of: its result row and its reply bear it.
    pub(crate) fn of(row: &'a FeedRow, of: Option<Position>, position: Position) -> Self {
        let ending = row.method.as_deref() == Some(METHOD_DELEGATE_RESULT);
        Self {
            id: row.id.map(|id| Id(id.0)),
            seq: position.0,
            workspace_id: Id(row.workspace.0),
            activity_type: row.activity_type.as_str(),
            source_id: row.source.map(|id| Id(id.0)),
            target_id: row.target.map(|id| Id(id.0)),
            method: clean(row.method.as_deref()),
            summary: clean(row.summary.as_deref()),
            request_body: row.request_body.as_ref().map(J::from),
            response_body: row.response_body.as_ref().map(J::from),
            duration_ms: row.duration_ms,
            status: sanitize(&row.status),
            error_detail: clean(row.error_detail.as_deref()),
            delegation_id: row.delegation.as_ref().map(id_text),
            created_at: row.created_at.into(),
            delegation_number: of.filter(|_| ending).map(|number| number.0),
        }
    }
}

impl ActivityRow<'_> {
    /// Whether it bears the number of its delegation: there is one of its type at most.
    pub(crate) fn tells_of_an_ending(&self) -> bool {
        self.method.as_deref() == Some(METHOD_DELEGATE_RESULT)
    }

    /// How much of a statement its texts take up.
    pub(crate) fn bytes(&self) -> usize {
        let texts = [&self.method, &self.summary, &self.error_detail];
        let bodies = [&self.request_body, &self.response_body];
        let texts = texts.into_iter().flatten().map(|text| text.len());
        let bodies = bodies.into_iter().flatten().map(|json| json.0.len());
        texts.chain(bodies).sum()
    }
}

/// A feed row as read.
#[derive(Queryable, Selectable, Debug)]
#[diesel(table_name = activity_logs)]
pub(crate) struct ActivityRead {
    seq: i64,
    id: Option<Id>,
    workspace_id: Id,
    activity_type: String,
    source_id: Option<Id>,
    target_id: Option<Id>,
    method: Option<String>,
    summary: Option<String>,
    request_body: Option<J>,
    response_body: Option<J>,
    tool_trace: Option<J>,
    duration_ms: Option<i32>,
    status: String,
    error_detail: Option<String>,
    created_at: Ts,
}

/// Where the delegation of a row stands: its id, status, what it waits for, what went wrong.
pub(crate) type DelegationNow = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// The delegation, if it waits for its poll-mode target to read the request in its inbox.
fn unfetched(caller: Option<Id>, now: &DelegationNow) -> Option<DelegationKey> {
    let (id, status, waiting_for, _) = now;
    let waits = status.as_deref() == Some(Status::Queued.as_str())
        && waiting_for.as_deref() == Some(WaitingFor::Poll.as_str());
    Some(DelegationKey {
        caller: WorkspaceId(caller?.0),
        id: DelegationId::from_text(id.as_deref().filter(|_| waits)?),
    })
}

impl ActivityRead {
    /// The row; `now` is where the delegation stands whose beginning or whose request it is (feed rows are never
    /// changed).
    pub(crate) fn read(self, now: DelegationNow) -> ActivityView {
        let method = self.method.as_deref();
        let unfetched = match method {
            Some(METHOD_SEND) => unfetched(self.source_id, &now),
            _ => None,
        };
        let (status, error_detail) = match now {
            (_, Some(status), _, detail) if method == Some(METHOD_DELEGATE) => {
                (status, detail.filter(|detail| !detail.is_empty()))
            }
            _ => (self.status, self.error_detail),
        };
        let (position, created_at) = (Position(self.seq), self.created_at.into());
        ActivityView {
            position,
            id: self.id.map_or_else(
                || ActivityId::of(position, created_at),
                |id| ActivityId(id.0),
            ),
            workspace: WorkspaceId(self.workspace_id.0),
            activity_type: self.activity_type,
            source: self.source_id.map(|id| WorkspaceId(id.0)),
            target: self.target_id.map(|id| WorkspaceId(id.0)),
            method: self.method,
            summary: self.summary,
            request_body: self.request_body.map(Into::into),
            response_body: self.response_body.map(Into::into),
            tool_trace: self.tool_trace.map(Into::into),
            duration_ms: self.duration_ms,
            status,
            error_detail,
            created_at,
            unfetched,
        }
    }
}

/// An event to insert.
#[derive(Insertable, Debug)]
#[diesel(table_name = structure_events, treat_none_as_default_value = false)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    pub(crate) event_type: &'static str,
    pub(crate) workspace_id: Option<Id>,
    pub(crate) payload: Option<J>,
    pub(crate) created_at: Ts,
    pub(crate) delegation_id: Option<Cow<'static, str>>,
}

impl EventRow {
    pub(crate) fn of(event: &FeedEvent, position: Position) -> Self {
        Self {
            seq: position.0,
            event_type: event.name.as_str(),
            workspace_id: Some(Id(event.workspace.0)),
            payload: Some(J::from(&event.payload)),
            created_at: event.created_at.into(),
            delegation_id: event.course_of.as_ref().map(id_text),
        }
    }
}

impl EventRow {
    /// How much of a statement its payload takes up.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, |json| json.0.len())
    }
}

/// An event as read.
#[derive(Queryable, Selectable, Debug)]
#[diesel(table_name = structure_events)]
pub(crate) struct EventRead {
    seq: i64,
    event_type: String,
    workspace_id: Option<Id>,
    payload: Option<J>,
    created_at: Ts,
}

impl From<EventRead> for EventView {
    fn from(row: EventRead) -> Self {
        let (position, created_at) = (Position(row.seq), row.created_at.into());
        Self {
            position,
            id: EventId::of(position, created_at),
            name: row.event_type,
            workspace: row.workspace_id.map(|id| WorkspaceId(id.0)),
            payload: row.payload.map(Into::into),
            created_at,
        }
    }
}
