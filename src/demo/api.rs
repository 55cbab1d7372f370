//! What the demonstration asks of the server.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::client::{Client, Error};

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

    pub(super) async fn create_workspace(&self, body: &Value) -> anyhow::Result<Seat> {
        let made = self.admin.post("/workspaces", body).await?;
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
    /// Hands a task over; the delegation's id.
    pub(super) async fn delegate(&self, body: &Value) -> anyhow::Result<String> {
        let made = self.post("delegate", body).await?;
        let id = made.get("delegation_id").and_then(Value::as_str);
        Ok(id.context("a field is missing")?.to_owned())
    }

    /// Sends to a place below the workspace.
    pub(super) async fn post(&self, place: &str, body: &Value) -> Result<Value, Error> {
        let path = format!("/workspaces/{}/{place}", self.id);
        self.client.post(&path, body).await
    }

    /// Reads a place below the workspace.
    pub(super) async fn get(&self, place: &str) -> Result<Value, Error> {
        self.client
            .get(&format!("/workspaces/{}/{place}", self.id))
            .await
    }

    /// Says that its agent lives, and how it is.
    pub(super) async fn beat(&self, body: &Value) -> Result<Value, Error> {
        self.client.post("/registry/heartbeat", body).await
    }

    /// Waits for replies, up to half a minute.
    pub(super) async fn inbox(&self) -> anyhow::Result<Vec<Value>> {
        Ok(rows(&self.get("inbox?wait=30").await?, "messages"))
    }

    pub(super) async fn acknowledge(&self, row: &Value) -> anyhow::Result<()> {
        let body = json!({"acked_seq": row.get("seq")});
        Ok(self.post("activity/ack", &body).await.map(drop)?)
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

/// The objects of a member that is a list.
pub(super) fn rows(body: &Value, name: &str) -> Vec<Value> {
    let rows = body.get(name).and_then(Value::as_array);
    rows.cloned().unwrap_or_default()
}
