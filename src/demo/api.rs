//! What the demonstration asks of the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::client::Client;

/// The interface, with the admin's rights.
#[derive(Clone)]
pub(super) struct Api {
    admin: Client,
}

/// A workspace, and the interface as it.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) id: String,
    client: Client,
}

impl Api {
    pub(super) fn new(address: SocketAddr, admin: &str) -> anyhow::Result<Self> {
        let admin = Client::new(&format!("http://{address}"), admin)?;
        Ok(Self { admin })
    }

    pub(super) async fn create_workspace(
        &self,
        name: &str,
        parent: Option<&str>,
        url: Option<&str>,
    ) -> anyhow::Result<Seat> {
        let body = json!({"name": name, "parent_id": parent, "external": true, "url": url});
        let made = self.admin.post("/workspaces", &body).await?;
        let field = |name: &str| {
            let text = made.get(name).and_then(Value::as_str);
            text.context("a field is missing")
        };
        Ok(Seat {
            id: field("id")?.to_owned(),
            client: self.admin.with_token(field("auth_token")?),
        })
    }

    pub(super) async fn invariants(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.admin.get("/admin/invariants").await?;
        Ok(rows(&answer, "violations"))
    }
}

impl Seat {
    pub(super) async fn delegate(&self, target: &str, task: &str) -> anyhow::Result<()> {
        let body = json!({"target_id": target, "task": task});
        let path = format!("/workspaces/{}/delegate", self.id);
        Ok(self.client.post(&path, &body).await.map(drop)?)
    }

    /// Waits for replies, up to half a minute.
    pub(super) async fn inbox(&self) -> anyhow::Result<Vec<Value>> {
        let path = format!("/workspaces/{}/inbox?wait=30", self.id);
        Ok(rows(&self.client.get(&path).await?, "messages"))
    }

    pub(super) async fn acknowledge(&self, row: &Value) -> anyhow::Result<()> {
        let path = format!("/workspaces/{}/activity/ack", self.id);
        let body = json!({"acked_seq": row.get("seq")});
        Ok(self.client.post(&path, &body).await.map(drop)?)
    }

    /// Hands each event of the workspace to `show`, until the server ends the stream.
    pub(super) async fn follow(&self, show: impl Fn(&str, &Value)) -> anyhow::Result<()> {
        let mut events = self.client.events(&self.id, Some(0)).await?;
        while let Some(event) = events.next().await? {
            show(&event.name, &event.data);
        }
        Ok(())
    }
}

fn rows(body: &Value, name: &str) -> Vec<Value> {
    let rows = body.get(name).and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}
