//! What a commit tells the other nodes (PostgreSQL's `NOTIFY`). Word is lost only with the connection, and whoever listens
//! knows when that breaks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::batch::Batch;
use super::life::id_text;
use super::stale::Stale;
use super::{Lease, Write};
use crate::domain::{DelegationId, DelegationKey, WorkspaceId};

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
    /// Which of the node's connections, as it counts them.
    session: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    workspaces: BTreeSet<Uuid>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    moved: Vec<(Uuid, String)>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    targets: BTreeSet<Uuid>,
    #[serde(default, skip_serializing_if = "Stale::is_empty")]
    stale: Stale,
}

/// What a batch has to tell; none when that is nothing. What does not fit is left out, but for what is not true any
/// more: if that does not fit, nothing is.
pub(super) fn payload(batch: &Batch<'_>, writes: &[Write], session: u64) -> Option<String> {
    let feeds = batch.items.iter().map(|(_, item)| item.workspace().0);
    let moved = batch.moved.iter();
    let mut payload = Payload {
        node: batch.node.0,
        session,
        all: false,
        workspaces: feeds.collect(),
        moved: moved
            .map(|key| (key.caller.0, id_text(&key.id).into_owned()))
            .collect(),
        targets: writes.iter().flat_map(targets).collect(),
        stale: Stale::by(writes, batch.written.iter().flatten()),
    };
    if payload.workspaces.is_empty()
        && payload.moved.is_empty()
        && payload.targets.is_empty()
        && payload.stale.is_empty()
    {
        return None;
    }
    if payload.workspaces.len() > WORKSPACES {
        payload.all = true;
        payload.workspaces.clear();
    }
    fitting(&payload).or_else(|| {
        let mut least = Payload {
            node: payload.node,
            session,
            all: true,
            stale: Stale {
                inboxes: BTreeSet::new(),
                ..payload.stale
            },
            ..Payload::default()
        };
        fitting(&least).or_else(|| {
            least.stale = Stale {
                everything: true,
                ..Stale::default()
            };
            fitting(&least)
        })
    })
}

fn fitting(payload: &Payload) -> Option<String> {
    let text = serde_json::to_string(payload).ok()?;
    (text.len() <= BYTES).then_some(text)
}

fn targets(write: &Write) -> Vec<Uuid> {
    match write {
        Write::PatchWorkspace { id, .. } => vec![id.0],
        Write::Register(registration) => vec![registration.id.0],
        Write::RemoveWorkspaces { ids, .. } => ids.iter().map(|id| id.0).collect(),
        _ => Vec::new(),
    }
}

/// What another node told, and what is not true any more since; none when it was this one, or nothing that this version
/// understands. What an earlier connection of this node committed nobody else tells: it may have broken off before the
/// answer.
pub(super) fn heard(own: &Lease, text: &str) -> Option<(Heard, Stale)> {
    let payload: Payload = serde_json::from_str(text).ok()?;
    if payload.node == own.node.0 && payload.session == own.session() {
        return None;
    }
    let key = |(caller, id): (Uuid, String)| DelegationKey {
        caller: WorkspaceId(caller),
        id: DelegationId::from_text(&id),
    };
    let heard = Heard {
        all: payload.all,
        workspaces: payload.workspaces.into_iter().map(WorkspaceId).collect(),
        moved: payload.moved.into_iter().map(key).collect(),
        targets: payload.targets.into_iter().map(WorkspaceId).collect(),
    };
    Some((heard, payload.stale))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::domain::{NodeId, Position, Timestamp, TokenId};
    use crate::store::Written;
    use crate::store::batch::Manner;

    fn lease() -> Lease {
        Lease {
            node: NodeId::mint(),
            length: Duration::from_mins(1),
            _claim: None,
            progress: Arc::default(),
            broken: Arc::default(),
        }
    }

    fn told(by: &Lease, moved: usize, writes: &[Write]) -> Option<String> {
        let keys: Vec<DelegationKey> = (0..moved)
            .map(|_| DelegationKey {
                caller: WorkspaceId::mint(),
                id: DelegationId::from_text("an \"odd\" id"),
            })
            .collect();
        let mut batch = Batch::new(writes, Manner::Guarded, by.node, Position(0));
        batch.moved = keys.iter().collect();
        batch.written = writes.iter().map(|_| Some(Written::Done)).collect();
        payload(&batch, writes, by.session())
    }

    fn removal(number: usize) -> Write {
        Write::RemoveWorkspaces {
            ids: (0..number).map(|_| WorkspaceId::mint()).collect(),
            purge: false,
            events: vec![],
            at: Timestamp(0),
        }
    }

    fn revocation() -> Write {
        Write::RevokeToken {
            workspace: WorkspaceId::mint(),
            token: TokenId::mint(),
            at: Timestamp(0),
        }
    }

    #[test]
    fn what_is_told_is_understood_by_all_but_the_teller() {
        let (own, other) = (lease(), lease());
        assert_eq!(told(&own, 0, &[]), None);
        let text = told(&own, 2, &[removal(3)]).unwrap();
        let (understood, stale) = heard(&other, &text).unwrap();
        assert_eq!((understood.targets.len(), understood.moved.len()), (3, 2));
        assert_eq!(&*understood.moved[0].id.to_string(), "an \"odd\" id");
        let sets = [&stale.changed, &stale.revoked, &stale.inboxes];
        assert_eq!(sets.map(BTreeSet::len), [3, 3, 3]);
        assert_eq!(heard(&own, &text), None);
        own.broke_off();
        assert!(heard(&own, &text).is_some(), "nobody saw it committed");
    }

    #[test]
    fn what_does_not_fit_is_told_as_all_of_it() {
        let (own, other) = (lease(), lease());
        let much = told(&own, 1000, &[revocation()]).unwrap();
        let (understood, stale) = heard(&other, &much).unwrap();
        assert!(much.len() <= BYTES && understood.all);
        assert!(!stale.everything && stale.revoked.len() == 1);
        let more = told(&own, 0, &[removal(1000), revocation()]).unwrap();
        let (understood, stale) = heard(&other, &more).unwrap();
        assert!(more.len() <= BYTES && understood.all && stale.everything);
    }
}
