//! `POST /workspaces` (contract §10.1, without provisioning).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::activity::unexpected;
use super::answer;
use super::body::{self, Fields};
use super::credentials::Credentials;
use super::error::{ApiError, Fault};
use super::extract::Admin;
use super::openapi::{Limited, Refused, WorkspaceBody};
use super::state::AppState;
use super::workspace_fields::{Named, check_for_creation, max_concurrent_tasks};
use super::workspaces::{MAX_DEPTH, event, parent};
use crate::auth::Secret;
use crate::clock;
use crate::domain::{DeliveryMode, EventName, FeedEvent, Workspace, WorkspaceId, WorkspaceStatus};
use crate::store::{Write, Written};

const INVALID: &str = "invalid workspace payload";

/// What is asked for.
struct Plan {
    name: String,
    role: Option<String>,
    model: Option<String>,
    runtime: Option<String>,
    tier: i32,
    external: bool,
    url: Option<String>,
    delivery_mode: DeliveryMode,
    access: String,
    parent: Option<WorkspaceId>,
    max_concurrent_tasks: i32,
    can_delegate: bool,
    place: (f64, f64),
    credentials: Credentials,
}

impl Plan {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let fields = Fields::parse(body).map_err(|fault| fault.under(INVALID))?;
        let mode = fields
            .text("delivery_mode")
            .map_err(|fault| fault.under(INVALID))?;
        let folder = fields
            .text("workspace_dir")
            .map_err(|fault| fault.under(INVALID))?;
        let mut plan = Self::bind(&fields).map_err(|fault| fault.under(INVALID))?;
        check_for_creation(&Named {
            name: Some(&plan.name),
            role: plan.role.as_deref(),
            model: plan.model.as_deref(),
            runtime: plan.runtime.as_deref(),
        })?;
        check_folder(folder.as_deref(), &plan.access)?;
        if let Some(mode) = mode {
            plan.delivery_mode = DeliveryMode::parse(&mode).ok_or_else(bad_mode)?;
        }
        Ok(plan)
    }

    fn bind(fields: &Fields) -> Result<Self, Fault> {
        let runtime = fields.text("runtime")?;
        let external = fields.flag("external")?.unwrap_or(false);
        let canvas = fields.object("canvas")?;
        let at = |axis| match &canvas {
            None => Ok(0.0),
            Some(canvas) => canvas.number(axis).map(Option::unwrap_or_default),
        };
        Ok(Self {
            name: fields.required_text("name")?,
            role: fields.text("role")?,
            model: fields.text("model")?,
            external: external || runtime.as_deref() == Some("external"),
            runtime,
            tier: fields
                .small_integer("tier")?
                .filter(|tier| *tier != 0)
                .unwrap_or(3),
            url: fields.text("url")?,
            delivery_mode: DeliveryMode::Push,
            access: fields
                .text("workspace_access")?
                .unwrap_or_else(|| "none".to_owned()),
            parent: parent(fields)?,
            max_concurrent_tasks: max_concurrent_tasks(fields)?.unwrap_or(0),
            can_delegate: fields.flag("can_delegate")?.unwrap_or(true),
            place: (at("x")?, at("y")?),
            credentials: Credentials::read(fields)?,
        })
    }

    fn status(&self) -> WorkspaceStatus {
        match (self.external, &self.url) {
            (true, Some(_)) => WorkspaceStatus::Online,
            (true, None) => WorkspaceStatus::AwaitingAgent,
            (false, _) => WorkspaceStatus::Provisioning,
        }
    }

    fn runtime(&self) -> &str {
        if self.external {
            "external"
        } else {
            self.runtime.as_deref().unwrap_or("langgraph")
        }
    }

    fn events(&self, id: WorkspaceId) -> Vec<FeedEvent> {
        let begun = json!({"name": self.name, "tier": self.tier, "runtime": self.runtime()});
        let mut events = vec![event(id, EventName::WorkspaceProvisioning, &begun)];
        let external = json!({"name": self.name, "external": true});
        match self.status() {
            WorkspaceStatus::Online => {
                events.push(event(id, EventName::WorkspaceOnline, &external));
            }
            WorkspaceStatus::AwaitingAgent => {
                events.push(event(id, EventName::WorkspaceAwaitingAgent, &external));
            }
            _ => {}
        }
        events
    }

    fn into_workspace(self, id: WorkspaceId) -> Workspace {
        let now = clock::now();
        let status = self.status();
        let runtime = self.runtime().to_owned();
        Workspace {
            id,
            name: self.name,
            role: self.role,
            tier: self.tier,
            status,
            agent_card: None,
            url: self.url,
            credentials: None,
            parent: self.parent,
            runtime,
            delivery_mode: self.delivery_mode,
            max_concurrent_tasks: self.max_concurrent_tasks,
            can_delegate: self.can_delegate,
            last_heartbeat_at: None,
            last_error_rate: 0.0,
            last_sample_error: None,
            active_tasks: 0,
            uptime_seconds: 0,
            current_task: None,
            monthly_spend: 0,
            x: self.place.0,
            y: self.place.1,
            collapsed: false,
            last_outbound_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Neither word is a mode.
pub(crate) fn bad_mode() -> ApiError {
    Fault::new("delivery_mode", "is neither 'push' nor 'poll'")
        .under("delivery_mode must be 'push' or 'poll'")
}

fn check_folder(folder: Option<&str>, access: &str) -> Result<(), ApiError> {
    const SYSTEM: [&str; 10] = [
        "/etc", "/var", "/proc", "/sys", "/dev", "/boot", "/sbin", "/bin", "/lib", "/usr",
    ];
    if let Some(folder) = folder {
        let system = SYSTEM.iter().any(|root| {
            let rest = folder.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !folder.starts_with('/') || folder.contains("..") || system {
            return Err(Fault::new(
                "workspace_dir",
                "must be an absolute path outside the system's folders",
            )
            .under("invalid workspace directory"));
        }
    }
    match (access, folder) {
        ("none", _) | ("read_only" | "read_write", Some(_)) => Ok(()),
        _ => Err(Fault::new(
            "workspace_access",
            "must be 'none', or with a workspace_dir 'read_only' or 'read_write'",
        )
        .under("invalid workspace access")),
    }
}

/// Creates a workspace and shows its token, once. Nothing is started: its agent registers when it comes up.
#[utoipa::path(post, path = "/workspaces", tag = "workspaces", request_body = WorkspaceBody,
    security(("bearer" = [])), responses(
    (status = 201, description = "Created, with its token", body = Value), Refused, Limited,
))]
pub(crate) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let plan = Plan::read(&body)?;
    if let Some(url) = &plan.url {
        let checked = state.guard.check(url).await;
        checked.map_err(|error| Fault::new("url", error.to_string()).under(error.to_string()))?;
    }
    if let Some(above) = plan.parent {
        check_parent(&state, above).await?;
    }
    let id = WorkspaceId::mint();
    let secret = Secret::mint();
    let answer = created(&plan, id, &secret, &request);
    let events = plan.events(id);
    let credentials = plan.credentials.sealed(&state.secrets, id)?;
    let mut workspace = Box::new(plan.into_workspace(id));
    workspace.credentials = credentials.flatten();
    let write = Write::CreateWorkspace {
        workspace,
        token: Some(secret.for_workspace(id)),
        events,
    };
    match state.persistence.write(write).await? {
        written @ (Written::Failed(_) | Written::Missing) => Err(unexpected(&written)),
        _ => answer::json(StatusCode::CREATED, &answer),
    }
}

async fn check_parent(state: &AppState, above: WorkspaceId) -> Result<(), ApiError> {
    let read = state.store.read(move |reader| {
        let alive = reader
            .workspace(above)?
            .is_some_and(|above| above.status != WorkspaceStatus::Removed);
        Ok((alive, reader.ancestry(above)?.len()))
    });
    let reason = match read.await? {
        (false, _) => "names no workspace",
        (true, depth) if depth >= MAX_DEPTH => "would make the organisation deeper than 32 levels",
        (true, _) => return Ok(()),
    };
    Err(Fault::new("parent_id", reason).under(INVALID))
}

fn created(plan: &Plan, id: WorkspaceId, secret: &Secret, request: &HttpRequest) -> Value {
    let (id, token) = (id.to_string(), secret.reveal());
    let status = plan.status().as_str();
    if !plan.external {
        return json!({
            "id": id, "status": status, "awareness_namespace": format!("workspace:{id}"),
            "workspace_access": plan.access, "auth_token": token,
        });
    }
    let mut answer = json!({"id": id, "external": true, "status": status, "auth_token": token});
    if let (None, Value::Object(members)) = (&plan.url, &mut answer) {
        let info = request.connection_info();
        let base = format!("{}://{}", info.scheme(), request_host(request));
        members.insert("connection".to_owned(), connection(&base, &id, token));
    }
    answer
}

/// The name under which the client reached this service; a proxy's headers are not trusted.
pub(crate) fn request_host(request: &HttpRequest) -> String {
    let header = request.headers().get(actix_web::http::header::HOST);
    let host = header.and_then(|host| host.to_str().ok());
    host.map_or_else(|| request.app_config().host().to_owned(), ToOwned::to_owned)
}

fn connection(base: &str, id: &str, token: &str) -> Value {
    let register = format!("{base}/registry/register");
    let snippet = format!(
        "curl -sS -X POST '{register}' -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
         -d '{{\"id\":\"{id}\",\"url\":\"https://YOUR-AGENT/\",\"agent_card\":{{\"name\":\"YOUR-AGENT\"}}}}'"
    );
    json!({
        "workspace_id": id, "platform_url": base, "auth_token": token, "registry_endpoint": register,
        "heartbeat_endpoint": format!("{base}/registry/heartbeat"), "curl_register_template": snippet,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_the_contracts_defaults() {
        let plan = Plan::read(br#"{"name":"a","external":true,"budget_limit":"ignored"}"#).unwrap();
        assert_eq!((plan.tier, plan.runtime()), (3, "external"));
        assert_eq!(plan.status(), WorkspaceStatus::AwaitingAgent);
        assert_eq!(plan.delivery_mode, DeliveryMode::Push);
        let plan = Plan::read(br#"{"name":"a","runtime":"external","url":"http://x/"}"#).unwrap();
        assert_eq!(plan.status(), WorkspaceStatus::Online);
        let plan = Plan::read(br#"{"name":"a","tier":1,"canvas":{"x":1.5}}"#).unwrap();
        assert_eq!((plan.tier, plan.place), (1, (1.5, 0.0)));
        assert_eq!(plan.status(), WorkspaceStatus::Provisioning);
    }

    #[test]
    fn faults_have_the_contracts_texts() {
        for (body, text) in [
            (json!({}), INVALID),
            (json!({"name": 1}), INVALID),
            (json!({"name": "a", "parent_id": "x"}), INVALID),
            (json!({"name": "a\nb"}), "invalid workspace fields"),
            (
                json!({"name": "a", "workspace_dir": "/etc/x"}),
                "invalid workspace directory",
            ),
            (
                json!({"name": "a", "workspace_dir": "x"}),
                "invalid workspace directory",
            ),
            (
                json!({"name": "a", "workspace_access": "read_only"}),
                "invalid workspace access",
            ),
            (
                json!({"name": "a", "delivery_mode": "x"}),
                "delivery_mode must be 'push' or 'poll'",
            ),
        ] {
            let refusal = Plan::read(body.to_string().as_bytes())
                .map(drop)
                .unwrap_err();
            assert_eq!(refusal.to_string(), text, "{body}");
        }
        assert!(check_folder(Some("/home/agent"), "read_write").is_ok());
    }
}
