//! An agent says that it lives (contract §9.2).

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::activity::unexpected;
use super::answer;
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Anybody, NO_WORKSPACE};
use super::openapi::{HeartbeatBody, Limited, Refused};
use super::registry::{INVALID_BODY, subject};
use super::state::AppState;
use super::workspaces::{event, removed};
use crate::clock;
use crate::domain::{EventName, Json, WorkspaceId, WorkspaceStatus};
use crate::events::Message;
use crate::store::{Heartbeat, WorkspacePatch, Write, Written};

/// The most that may be spent in a month, in cents.
const MAX_SPEND: i64 = 1_000_000_000_000;

/// A heartbeat with what decides about the workspace's status.
struct Beat {
    figures: Heartbeat,
    wedged: bool,
    /// It says nothing of its state.
    calm: bool,
    /// It manages its status itself.
    manages_status: bool,
}

impl Beat {
    fn read(fields: &Fields) -> Result<Self, Fault> {
        let state = fields.text("runtime_state")?;
        let metadata = fields.object("runtime_metadata")?;
        let capabilities = match &metadata {
            None => None,
            Some(metadata) => metadata.object("capabilities")?,
        };
        let manages_status = match &capabilities {
            None => None,
            Some(capabilities) => capabilities.flag("status_mgmt")?,
        };
        let spend = fields
            .integer("monthly_spend")?
            .map(|spend| spend.clamp(0, MAX_SPEND));
        Ok(Self {
            figures: Heartbeat {
                at: clock::now(),
                error_rate: fields.number("error_rate")?.unwrap_or(0.0),
                sample_error: fields.text("sample_error")?.unwrap_or_default(),
                active_tasks: fields.small_integer("active_tasks")?.unwrap_or(0),
                uptime_seconds: fields.small_integer("uptime_seconds")?.unwrap_or(0),
                current_task: fields.text("current_task")?.unwrap_or_default(),
                monthly_spend: spend.filter(|spend| *spend > 0),
            },
            wedged: state.as_deref() == Some("wedged"),
            calm: state.is_none(),
            manages_status: manages_status.unwrap_or(false),
        })
    }

    /// The status that follows, with the event that tells of it.
    fn moves(&self, from: WorkspaceStatus) -> Option<(WorkspaceStatus, EventName, Value)> {
        use WorkspaceStatus::{AwaitingAgent, Degraded, Failed, Offline, Online, Provisioning};
        let figures = &self.figures;
        let degraded = |payload| Some((Degraded, EventName::WorkspaceDegraded, payload));
        let online = |payload| Some((Online, EventName::WorkspaceOnline, payload));
        match from {
            Online if self.wedged => degraded(json!({
                "runtime_state": "wedged", "sample_error": figures.sample_error,
            })),
            Online if figures.error_rate >= 0.5 && !self.manages_status => degraded(json!({
                "error_rate": figures.error_rate, "sample_error": figures.sample_error,
            })),
            Degraded if figures.error_rate < 0.1 && self.calm && !self.manages_status => {
                online(json!({}))
            }
            Offline => online(json!({})),
            Provisioning | AwaitingAgent | Failed => {
                online(json!({"recovered_from": from.as_str()}))
            }
            _ => None,
        }
    }
}

/// An agent says that it lives, and how it is.
#[utoipa::path(post, path = "/registry/heartbeat", tag = "registry", request_body = HeartbeatBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Committed", body = Value),
    (status = 410, description = "Removed", body = Value), Refused, Limited,
))]
pub(crate) async fn heartbeat(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(invalid)?;
    let id = subject(&fields, "workspace_id", speaker.0)?;
    let beat = Beat::read(&fields).map_err(invalid)?;
    let found = state.store.read(move |reader| reader.workspace(id)).await?;
    let workspace = found.ok_or(NO_WORKSPACE)?;
    if workspace.status == WorkspaceStatus::Removed {
        return Err(removed(&workspace));
    }
    let (status, events) = match beat.moves(workspace.status) {
        None => (None, Vec::new()),
        Some((to, name, payload)) => (Some(to), vec![event(id, name, &payload)]),
    };
    let figures = beat.figures.clone();
    let write = Write::PatchWorkspace {
        id,
        patch: Box::new(WorkspacePatch {
            status,
            heartbeat: Some(beat.figures),
            ..WorkspacePatch::default()
        }),
        events,
        at: figures.at,
    };
    match state.persistence.write(write).await? {
        Written::Missing => return Err(NO_WORKSPACE),
        written @ Written::Failed(_) => return Err(unexpected(&written)),
        _ => {}
    }
    state.delegations.target_stirred(id);
    let before = workspace.current_task.as_deref().unwrap_or_default();
    show(&state, id, &figures, before);
    answer::ok(&json!({"status": "ok"}))
}

/// Broadcasts what is not recorded, once the heartbeat is committed.
fn show(state: &AppState, id: WorkspaceId, figures: &Heartbeat, task_before: &str) {
    let publish = |name, payload: &Value| {
        state.events.publish(Message::Event {
            place: None,
            name,
            workspace: id,
            payload: Json::from(payload),
            at: figures.at,
        });
    };
    if figures.current_task != task_before {
        publish(
            EventName::TaskUpdated,
            &json!({"current_task": figures.current_task, "active_tasks": figures.active_tasks}),
        );
    }
    publish(
        EventName::WorkspaceHeartbeat,
        &json!({"active_tasks": figures.active_tasks, "uptime_seconds": figures.uptime_seconds}),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(body: &Value) -> Beat {
        Beat::read(&Fields::parse(body.to_string().as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_heartbeat_moves_the_status_as_the_contract_says() {
        use WorkspaceStatus::{
            AwaitingAgent, Degraded, Failed, Hibernated, Offline, Online, Paused, Provisioning,
        };
        let own = json!({"capabilities": {"status_mgmt": true}});
        for (from, body, to) in [
            (Online, json!({}), None),
            (Online, json!({"runtime_state": "wedged"}), Some(Degraded)),
            (Online, json!({"error_rate": 0.5}), Some(Degraded)),
            (
                Online,
                json!({"error_rate": 0.5, "runtime_metadata": own}),
                None,
            ),
            (Degraded, json!({"error_rate": 0.05}), Some(Online)),
            (Degraded, json!({"error_rate": 0.1}), None),
            (Degraded, json!({"runtime_state": "wedged"}), None),
            (Offline, json!({"error_rate": 0.9}), Some(Online)),
            (Provisioning, json!({}), Some(Online)),
            (AwaitingAgent, json!({}), Some(Online)),
            (Failed, json!({}), Some(Online)),
            (Paused, json!({}), None),
            (Hibernated, json!({}), None),
        ] {
            let moved = beat(&body).moves(from).map(|(to, _, _)| to);
            assert_eq!(moved, to, "{from:?} {body}");
        }
    }

    #[test]
    fn spend_is_clamped_and_zero_is_no_change() {
        for (spend, stored) in [
            (0, None),
            (-5, None),
            (7, Some(7)),
            (i64::MAX, Some(MAX_SPEND)),
        ] {
            assert_eq!(
                beat(&json!({"monthly_spend": spend})).figures.monthly_spend,
                stored
            );
        }
    }
}
