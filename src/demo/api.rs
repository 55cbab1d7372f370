//! A client of Baton's own HTTP interface, as an agent would write it.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The interface, with the admin's rights.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    base: String,
    admin: String,
}

/// A workspace and its token.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) id: String,
    token: String,
}

impl Api {
    pub(super) fn new(address: SocketAddr, admin: &str) -> Self {
        Self {
            client: Client::new(),
            base: format!("http://{address}"),
            admin: admin.to_owned(),
        }
    }

    pub(super) async fn create_workspace(
        &self,
        name: &str,
        parent: Option<&str>,
        url: Option<&str>,
    ) -> anyhow::Result<Seat> {
        let body = json!({"name": name, "parent_id": parent, "external": true, "url": url});
        let made = self
            .call(Method::POST, "/workspaces", &self.admin, Some(body))
            .await?;
        let field = |name: &str| {
            made.get(name)
                .and_then(Value::as_str)
                .map(ToOwned::to_owned)
                .context("a field is missing")
        };
        Ok(Seat {
            id: field("id")?,
            token: field("auth_token")?,
        })
    }

    pub(super) async fn delegate(
        &self,
        caller: &Seat,
        target: &str,
        task: &str,
    ) -> anyhow::Result<()> {
        let body = json!({"target_id": target, "task": task});
        let path = format!("/workspaces/{}/delegate", caller.id);
        self.call(Method::POST, &path, &caller.token, Some(body))
            .await
            .map(drop)
    }

    /// Waits for replies, up to half a minute.
    pub(super) async fn inbox(&self, caller: &Seat) -> anyhow::Result<Vec<Value>> {
        let path = format!("/workspaces/{}/inbox?wait=30", caller.id);
        let inbox = self.call(Method::GET, &path, &caller.token, None).await?;
        Ok(rows(&inbox, "messages"))
    }

    pub(super) async fn acknowledge(&self, caller: &Seat, row: &Value) -> anyhow::Result<()> {
        let path = format!("/workspaces/{}/activity/ack", caller.id);
        let body = json!({"acked_seq": row.get("seq")});
        self.call(Method::POST, &path, &caller.token, Some(body))
            .await
            .map(drop)
    }

    pub(super) async fn invariants(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self
            .call(Method::GET, "/admin/invariants", &self.admin, None)
            .await?;
        Ok(rows(&answer, "violations"))
    }

    /// Hands each event of the workspace to `show`, until the server ends the stream.
    pub(super) async fn follow(
        &self,
        seat: &Seat,
        show: impl Fn(&str, &Value),
    ) -> anyhow::Result<()> {
        let url = format!("{}/workspaces/{}/events/stream", self.base, seat.id);
        let answer = self
            .client
            .get(url)
            .bearer_auth(&seat.token)
            .header("Last-Event-ID", "0")
            .send()
            .await?;
        let mut stream = answer.error_for_status()?.bytes_stream();
        let mut text = String::new();
        while let Some(chunk) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk?));
            while let Some((block, rest)) = text.split_once("\n\n") {
                for data in block.lines().filter_map(|line| line.strip_prefix("data: ")) {
                    let event: Value = serde_json::from_str(data)?;
                    let name = event.get("type").and_then(Value::as_str);
                    show(
                        name.unwrap_or_default(),
                        event.get("data").unwrap_or(&Value::Null),
                    );
                }
                text = rest.to_owned();
            }
        }
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}

fn rows(body: &Value, name: &str) -> Vec<Value> {
    let rows = body.get(name).and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}
