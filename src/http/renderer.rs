//! What receivers of events are told.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::a2a::push;
use super::activity::Row;
use crate::domain::{ActivityType, METHOD_DELEGATE_RESULT, Position, Receiver, WorkspaceId};
use crate::events::Shown;
use crate::outbox::{Render, Rendering};
use crate::store::{ActivityFilter, ActivityView, Error, Store};

/// How many rows before an ending's event are looked at: its own are right before it.
const ROWS: i64 = 4;

/// Says what receivers are told.
pub struct Renderer {
    store: Store,
}

impl Renderer {
    /// What it tells of, it reads here.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// That a delegation ended, with the row that the inbox shows; without replies, or where that row is gone, with what
    /// there is.
    async fn reply(&self, receiver: &Receiver, event: &Shown) -> Result<Vec<Bytes>, Error> {
        let (Some(place), Some(id)) = (event.position, delegation(event)) else {
            return Ok(Vec::new());
        };
        let mut row = None;
        for kind in [ActivityType::A2aReceive, ActivityType::Delegation] {
            if row.is_none() {
                row = self.row(receiver.workspace, kind, place, &id).await?;
            }
        }
        let data = row.as_ref().map(Row::from);
        let data = data.and_then(|row| serde_json::value::to_raw_value(&row).ok());
        let owner = receiver.workspace;
        Ok(written("reply", owner, &id, event, data.as_deref()))
    }

    async fn row(
        &self,
        workspace: WorkspaceId,
        kind: ActivityType,
        place: Position,
        id: &str,
    ) -> Result<Option<ActivityView>, Error> {
        let filter = ActivityFilter {
            workspace,
            activity_type: Some(kind.as_str().to_owned()),
            source: None,
            peer: None,
            since: None,
            before: None,
            after_position: None,
            before_position: Some(place),
            limit: ROWS,
        };
        let rows = self.store.read(move |reader| reader.activity(&filter));
        let tells_of_it = |row: &ActivityView| {
            row.method.as_deref() == Some(METHOD_DELEGATE_RESULT)
                && named(row.response_body.as_ref()).as_deref() == Some(id)
        };
        Ok(rows.await?.into_iter().find(tells_of_it))
    }
}

impl Render for Renderer {
    fn render<'a>(&'a self, receiver: &'a Receiver, event: &'a Shown) -> Rendering<'a> {
        Box::pin(async move {
            match &receiver.delegation {
                None => self.reply(receiver, event).await,
                Some(_) => push::told(&self.store, receiver, event).await,
            }
        })
    }
}

/// The delegation that an event tells of.
fn delegation(event: &Shown) -> Option<String> {
    named(event.payload.as_ref())
}

fn named(json: Option<&crate::domain::Json>) -> Option<String> {
    let members: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&json?.0).ok()?;
    let id = members.get("delegation_id")?.as_str()?;
    Some(id.to_owned())
}

fn written(
    kind: &str,
    workspace: WorkspaceId,
    delegation: &str,
    event: &Shown,
    data: Option<&RawValue>,
) -> Vec<Bytes> {
    #[derive(Serialize)]
    struct Told<'a> {
        r#type: &'a str,
        workspace_id: String,
        delegation_id: &'a str,
        seq: Option<i64>,
        timestamp: String,
        data: Option<&'a RawValue>,
    }
    let told = Told {
        r#type: kind,
        workspace_id: workspace.to_string(),
        delegation_id: delegation,
        seq: event.position.map(|place| place.0),
        timestamp: event.at.to_rfc3339(),
        data,
    };
    let body = serde_json::to_vec(&told).ok();
    body.into_iter().map(Bytes::from).collect()
}
