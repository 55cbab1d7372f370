//! What a commit tells the other nodes (PostgreSQL's `NOTIFY`). Word that is lost costs time, never correctness.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Write;
use super::batch::Batch;
use super::life::id_text;
use crate::domain::{DelegationId, DelegationKey, NodeId, WorkspaceId};

/// Where nodes talk to each other.
pub(crate) const CHANNEL: &str = "baton";
/// `PostgreSQL` takes payloads of less than 8,000 bytes.
const BYTES: usize = 7_900;
/// More workspaces than this are told as all of them.
const WORKSPACES: usize = 100;

/// What another node committed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// Any feed may have grown, beside those named.
    pub all: bool,
    /// Whose feeds grew.
    pub workspaces: Vec<WorkspaceId>,
    /// Delegations that it moved although it may not have them in charge.
    pub moved: Vec<DelegationKey>,
    /// Workspaces that registered, gave a sign, changed or were removed.
    pub targets: Vec<WorkspaceId>,
}

/// [`Heard`], as it travels.
#[derive(Serialize, Deserialize, Default)]
struct Payload {
    node: Uuid,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    workspaces: BTreeSet<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    moved: Vec<(Uuid, String)>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    targets: BTreeSet<Uuid>,
}

/// What a batch has to tell; none when that is nothing. What does not fit is left out.
pub(super) fn payload(batch: &Batch<'_>, writes: &[Write]) -> Option<String> {
    let feeds = batch.items.iter().map(|(_, item)| item.workspace().0);
    let moved = batch.moved.iter();
    let mut payload = Payload {
        node: batch.node.0,
        all: false,
        workspaces: feeds.collect(),
        moved: moved
            .map(|key| (key.caller.0, id_text(&key.id).into_owned()))
            .collect(),
        targets: writes.iter().flat_map(targets).collect(),
    };
    if payload.workspaces.is_empty() && payload.moved.is_empty() && payload.targets.is_empty() {
        return None;
    }
    if payload.workspaces.len() > WORKSPACES {
        payload.all = true;
        payload.workspaces.clear();
    }
    let text = serde_json::to_string(&payload).ok()?;
    if text.len() <= BYTES {
        return Some(text);
    }
    let all = Payload {
        node: payload.node,
        all: true,
        ..Payload::default()
    };
    serde_json::to_string(&all).ok()
}

fn targets(write: &Write) -> Vec<Uuid> {
    match write {
        Write::PatchWorkspace { id, .. } => vec![id.0],
        Write::Register(registration) => vec![registration.id.0],
        Write::RemoveWorkspaces { ids, .. } => ids.iter().map(|id| id.0).collect(),
        _ => Vec::new(),
    }
}

/// What another node told; none when it was this one, or nothing that this version understands.
pub(super) fn heard(own: NodeId, text: &str) -> Option<Heard> {
    let payload: Payload = serde_json::from_str(text).ok()?;
    let key = |(caller, id): (Uuid, String)| DelegationKey {
        caller: WorkspaceId(caller),
        id: DelegationId::from_text(&id),
    };
    (payload.node != own.0).then(|| Heard {
        all: payload.all,
        workspaces: payload.workspaces.into_iter().map(WorkspaceId).collect(),
        moved: payload.moved.into_iter().map(key).collect(),
        targets: payload.targets.into_iter().map(WorkspaceId).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(workspaces: usize, moved: usize) -> Option<String> {
        let ids: Vec<WorkspaceId> = (0..workspaces).map(|_| WorkspaceId::mint()).collect();
        let keys: Vec<DelegationKey> = (0..moved)
            .map(|_| DelegationKey {
                caller: WorkspaceId::mint(),
                id: DelegationId::from_text("an \"odd\" id"),
            })
            .collect();
        let mut batch = Batch::new(1, false, NodeId::mint());
        batch.moved = keys.iter().collect();
        let writes = [Write::RemoveWorkspaces {
            ids,
            purge: false,
            events: vec![],
            at: crate::domain::Timestamp(0),
        }];
        payload(&batch, &writes)
    }

    #[test]
    fn what_is_told_is_understood_by_all_but_the_teller_and_always_fits() {
        assert_eq!(told(0, 0), None);
        let text = told(3, 2).unwrap();
        let understood = heard(NodeId::mint(), &text).unwrap();
        assert_eq!((understood.targets.len(), understood.moved.len()), (3, 2));
        assert_eq!(&*understood.moved[0].id.to_string(), "an \"odd\" id");
        let payload: Payload = serde_json::from_str(&text).unwrap();
        assert_eq!(heard(NodeId(payload.node), &text), None);
        let much = told(1000, 1000).unwrap();
        assert!(much.len() <= BYTES);
        assert!(heard(NodeId::mint(), &much).unwrap().all);
    }
}
