//! A thin client: one method per route, and what came back as it came back.

mod feed;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

pub(crate) use self::feed::position;
use super::eventually;

/// The statuses that a delegation never leaves.
pub(crate) const ENDED: [&str; 3] = ["completed", "failed", "cancelled"];

/// Talks to a server, wherever it listens at the moment.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: Arc<RwLock<String>>,
    admin_token: String,
}

/// A workspace and the token to speak for it.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// On whose behalf a request is made.
#[derive(Clone, Copy)]
pub(crate) enum As<'a> {
    Nobody,
    Admin,
    Workspace(&'a Workspace),
    Bearer(&'a str),
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// `null` when the text is not JSON.
    pub(crate) body: Value,
    request: String,
}

impl Reply {
    /// Requires a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status, status,
            "{} was answered: {}",
            self.request, self.text
        );
        self
    }

    /// The text of a field that must be there.
    #[track_caller]
    pub(crate) fn str(&self, field: &str) -> &str {
        self.body[field]
            .as_str()
            .unwrap_or_else(|| panic!("{}: no text {field:?} in {}", self.request, self.text))
    }

    /// The rows of an answer that must be an array.
    #[track_caller]
    pub(crate) fn rows(&self) -> &[Value] {
        self.body
            .as_array()
            .unwrap_or_else(|| panic!("{}: no array but {}", self.request, self.text))
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Api {
    pub(crate) fn new(admin_token: &str) -> Self {
        // Someone else may have installed it already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(90))
            .tls_certs_only([])
            .build()
            .expect("an HTTP client");
        Self {
            http,
            base: Arc::default(),
            admin_token: admin_token.to_owned(),
        }
    }

    /// From now on the server is there.
    pub(crate) fn move_to(&self, base: &str) {
        let mut current = self.base.write().unwrap_or_else(PoisonError::into_inner);
        base.trim_end_matches('/').clone_into(&mut current);
    }

    /// Where the server is, without a slash at the end.
    pub(crate) fn base(&self) -> String {
        let current = self.base.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Any request; `None` when no response came.
    pub(crate) async fn try_request(
        &self,
        method: Method,
        by: As<'_>,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Option<Reply> {
        self.try_request_with(method, by, path, body, &[]).await
    }

    /// The same with more headers, which count.
    pub(crate) async fn try_request_with(
        &self,
        method: Method,
        by: As<'_>,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.base()));
        request = match by {
            As::Nobody => request,
            As::Admin => request.bearer_auth(&self.admin_token),
            As::Workspace(workspace) => request
                .bearer_auth(&workspace.token)
                .header("X-Workspace-ID", &workspace.id),
            As::Bearer(token) => request.bearer_auth(token),
        };
        if let Some(body) = body {
            request = request
                .header("Content-Type", "application/json")
                .body(body);
        }
        let more = headers.iter().map(|(name, value)| {
            let name = HeaderName::try_from(*name).expect("a header's name");
            (
                name,
                HeaderValue::from_str(value).expect("a header's value"),
            )
        });
        request = request.headers(more.collect());
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.ok()?;
        Some(Reply {
            status,
            headers,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
            request: format!("{method} {path}"),
        })
    }

    /// Any request that must be answered.
    pub(crate) async fn request(
        &self,
        method: Method,
        by: As<'_>,
        path: &str,
        body: Option<&Value>,
    ) -> Reply {
        let bytes = body.map(|body| body.to_string().into_bytes());
        self.try_request(method.clone(), by, path, bytes)
            .await
            .unwrap_or_else(|| panic!("{method} {path} was not answered"))
    }

    pub(crate) async fn get(&self, by: As<'_>, path: &str) -> Reply {
        self.request(Method::GET, by, path, None).await
    }

    pub(crate) async fn post(&self, by: As<'_>, path: &str, body: &Value) -> Reply {
        self.request(Method::POST, by, path, Some(body)).await
    }

    /// A POST with more headers, which count.
    pub(crate) async fn post_with(
        &self,
        by: As<'_>,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let body = Some(body.to_string().into_bytes());
        let reply = self.try_request_with(Method::POST, by, path, body, headers);
        reply.await.expect("an answer")
    }

    pub(crate) async fn try_get(&self, path: &str) -> Option<Reply> {
        self.try_request(Method::GET, As::Nobody, path, None).await
    }

    pub(crate) async fn admin_get(&self, path: &str) -> Reply {
        self.get(As::Admin, path).await
    }

    pub(crate) async fn admin_post(&self, path: &str, body: &Value) -> Reply {
        self.post(As::Admin, path, body).await
    }
}

/// Workspaces.
impl Api {
    /// An external workspace, with its agent at `url` or none yet.
    pub(crate) async fn create_workspace(
        &self,
        name: &str,
        parent: Option<&Workspace>,
        url: Option<&str>,
    ) -> Workspace {
        let mut body = json!({"name": name, "external": true});
        if let Some(parent) = parent {
            body["parent_id"] = parent.id.as_str().into();
        }
        if let Some(url) = url {
            body["url"] = url.into();
        }
        self.create_workspace_with(&body).await
    }

    /// A workspace that fetches its work.
    pub(crate) async fn create_poll_workspace(
        &self,
        name: &str,
        parent: Option<&Workspace>,
    ) -> Workspace {
        let mut body = json!({"name": name, "external": true, "delivery_mode": "poll"});
        if let Some(parent) = parent {
            body["parent_id"] = parent.id.as_str().into();
        }
        self.create_workspace_with(&body).await
    }

    /// A workspace of any payload.
    pub(crate) async fn create_workspace_with(&self, body: &Value) -> Workspace {
        let reply = self.admin_post("/workspaces", body).await.expect(201);
        Workspace {
            id: reply.str("id").to_owned(),
            token: reply.str("auth_token").to_owned(),
        }
    }

    /// `POST /registry/register` by the workspace itself.
    pub(crate) async fn register(
        &self,
        workspace: &Workspace,
        url: &str,
        agent_card: &Value,
    ) -> Reply {
        let body = json!({"id": workspace.id, "url": url, "agent_card": agent_card});
        self.post(As::Workspace(workspace), "/registry/register", &body)
            .await
    }

    /// `POST /registry/heartbeat` with `active_tasks`.
    pub(crate) async fn heartbeat(&self, workspace: &Workspace, active_tasks: i32) -> Reply {
        let body = json!({"workspace_id": workspace.id, "active_tasks": active_tasks});
        self.post(As::Workspace(workspace), "/registry/heartbeat", &body)
            .await
    }

    pub(crate) async fn tokens(&self, workspace: &Workspace) -> Reply {
        self.at(Method::GET, workspace, "tokens", None).await
    }

    /// `GET /events/:id`, newest first.
    pub(crate) async fn events(&self, workspace: &Workspace) -> Reply {
        self.admin_get(&format!("/events/{}", workspace.id)).await
    }

    /// The names of the recorded events of one delegation, oldest first.
    pub(crate) async fn event_names(&self, workspace: &Workspace, id: &str) -> Vec<String> {
        let reply = self.events(workspace).await.expect(200);
        let of_it = |event: &&Value| event["payload"]["delegation_id"] == id;
        let names = reply.rows().iter().rev().filter(of_it);
        names
            .filter_map(|event| event["event_type"].as_str())
            .map(ToOwned::to_owned)
            .collect()
    }

    async fn at(
        &self,
        method: Method,
        workspace: &Workspace,
        rest: &str,
        body: Option<&Value>,
    ) -> Reply {
        let path = format!("/workspaces/{}/{rest}", workspace.id);
        self.request(method, As::Workspace(workspace), &path, body)
            .await
    }
}

/// Delegations.
impl Api {
    /// `POST …/delegate`.
    pub(crate) async fn delegate(
        &self,
        caller: &Workspace,
        target: &Workspace,
        task: &str,
    ) -> Reply {
        let body = json!({"target_id": target.id, "task": task});
        self.delegate_with(caller, &body).await
    }

    /// `POST …/delegate` with any payload.
    pub(crate) async fn delegate_with(&self, caller: &Workspace, body: &Value) -> Reply {
        self.at(Method::POST, caller, "delegate", Some(body)).await
    }

    /// `POST …/delegate` that must be accepted; the delegation's id.
    pub(crate) async fn delegated(
        &self,
        caller: &Workspace,
        target: &Workspace,
        task: &str,
    ) -> String {
        let reply = self.delegate(caller, target, task).await.expect(202);
        reply.str("delegation_id").to_owned()
    }

    /// `POST …/delegations/record`.
    pub(crate) async fn record(
        &self,
        caller: &Workspace,
        target: &Workspace,
        id: &str,
        task: &str,
    ) -> Reply {
        let body = json!({"target_id": target.id, "task": task, "delegation_id": id});
        self.at(Method::POST, caller, "delegations/record", Some(&body))
            .await
    }

    /// `POST …/delegations/:id/update` with any payload, by either party.
    pub(crate) async fn update(&self, reporter: &Workspace, id: &str, body: &Value) -> Reply {
        self.on(Method::POST, reporter, id, "/update", Some(body))
            .await
    }

    /// Reports an answer.
    pub(crate) async fn report_completed(
        &self,
        reporter: &Workspace,
        id: &str,
        text: &str,
    ) -> Reply {
        let body = json!({"status": "completed", "response_preview": text});
        self.update(reporter, id, &body).await
    }

    /// Reports a failure.
    pub(crate) async fn report_failed(&self, reporter: &Workspace, id: &str, error: &str) -> Reply {
        let body = json!({"status": "failed", "error": error});
        self.update(reporter, id, &body).await
    }

    /// `GET …/delegations`.
    pub(crate) async fn delegations(&self, workspace: &Workspace) -> Reply {
        self.at(Method::GET, workspace, "delegations?limit=500", None)
            .await
    }

    /// `GET …/delegations/:id`.
    pub(crate) async fn delegation(&self, workspace: &Workspace, id: &str) -> Reply {
        self.on(Method::GET, workspace, id, "", None).await
    }

    /// `POST …/delegations/:id/heartbeat`.
    pub(crate) async fn delegation_heartbeat(
        &self,
        by: &Workspace,
        id: &str,
        body: &Value,
    ) -> Reply {
        self.on(Method::POST, by, id, "/heartbeat", Some(body))
            .await
    }

    /// `POST …/delegations/:id/cancel`.
    pub(crate) async fn cancel(&self, by: &Workspace, id: &str, reason: &str) -> Reply {
        let body = json!({"reason": reason});
        self.on(Method::POST, by, id, "/cancel", Some(&body)).await
    }

    /// `POST …/delegations/:id/retry`.
    pub(crate) async fn retry(&self, by: &Workspace, id: &str) -> Reply {
        self.on(Method::POST, by, id, "/retry", Some(&json!({})))
            .await
    }

    /// `POST …/delegations/:id/input`.
    pub(crate) async fn input(&self, by: &Workspace, id: &str, text: &str) -> Reply {
        let body = json!({"text": text});
        self.on(Method::POST, by, id, "/input", Some(&body)).await
    }

    /// `GET /admin/delegations?status=…`.
    pub(crate) async fn admin_delegations(&self, status: &str) -> Reply {
        self.admin_get(&format!("/admin/delegations?status={status}&limit=1000"))
            .await
    }

    /// Waits until a delegation ended; the whole of it.
    pub(crate) async fn wait_until_ended(&self, workspace: &Workspace, id: &str) -> Value {
        self.wait_until_status(workspace, id, &ENDED).await
    }

    /// Waits until a delegation has one of these statuses; the whole of it.
    pub(crate) async fn wait_until_status(
        &self,
        workspace: &Workspace,
        id: &str,
        statuses: &[&str],
    ) -> Value {
        eventually(&format!("{id} is {statuses:?}"), async || {
            let path = format!("/workspaces/{}/delegations/{id}", workspace.id);
            let by = As::Workspace(workspace);
            let reply = self.try_request(Method::GET, by, &path, None).await?;
            let status = reply.body["status"].as_str().unwrap_or_default();
            statuses.contains(&status).then_some(reply.body)
        })
        .await
    }

    /// Waits until a workspace has no delegation left that lives.
    pub(crate) async fn wait_until_all_ended(&self, workspace: &Workspace) {
        let live = "pending,dispatched,received,in_progress,queued,input_required,stuck";
        let path = format!(
            "/workspaces/{}/delegations?limit=1&status={live}",
            workspace.id
        );
        eventually("every delegation ended", async || {
            let reply = self.get(As::Workspace(workspace), &path).await.expect(200);
            reply.rows().is_empty().then_some(())
        })
        .await;
    }

    async fn on(
        &self,
        method: Method,
        workspace: &Workspace,
        id: &str,
        rest: &str,
        body: Option<&Value>,
    ) -> Reply {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let id = id.replace('+', "%20");
        self.at(method, workspace, &format!("delegations/{id}{rest}"), body)
            .await
    }
}
