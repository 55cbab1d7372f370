//! What a commit makes untrue of what is remembered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Published, WorkspacePatch, Write, Written};
use crate::domain::ActivityType;

/// Of whom something is not true any more.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Stale {
    /// Any of what follows, of any workspace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) everything: bool,
    /// Workspaces that are not what they were.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) changed: BTreeSet<Uuid>,
    /// Workspaces that lost a token.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) revoked: BTreeSet<Uuid>,
    /// Inboxes that lost a row, or in which more is acknowledged.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) inboxes: BTreeSet<Uuid>,
}

impl Stale {
    /// What writes with these outcomes make stale, beside the feeds that they add to.
    pub(super) fn by<'a>(writes: &[Write], written: impl IntoIterator<Item = &'a Written>) -> Self {
        let mut stale = Self::default();
        for (write, written) in writes.iter().zip(written) {
            stale.add(write, written);
        }
        stale
    }

    fn add(&mut self, write: &Write, written: &Written) {
        match write {
            Write::Register(registration) => {
                self.changed.insert(registration.id.0);
            }
            Write::PatchWorkspace { id, patch, .. } if decides(patch) => {
                self.changed.insert(id.0);
            }
            Write::RemoveWorkspaces { ids, .. } => {
                for set in [&mut self.changed, &mut self.revoked, &mut self.inboxes] {
                    set.extend(ids.iter().map(|id| id.0));
                }
            }
            Write::RevokeToken { workspace, .. } => {
                self.revoked.insert(workspace.0);
            }
            Write::Acknowledge { workspace, .. } => {
                self.inboxes.insert(workspace.0);
            }
            Write::Prune(prune) if !matches!(written, Written::Pruned { deleted: 0, .. }) => {
                self.inboxes.insert(prune.workspace.0);
            }
            // What does not exist is not remembered: what makes it makes nothing untrue.
            Write::CreateWorkspace { .. }
            | Write::MintToken { .. }
            | Write::PatchWorkspace { .. }
            | Write::Prune(_)
            | Write::PruneEvents { .. }
            | Write::Accept(_)
            | Write::Advance(_)
            | Write::Visit(_)
            | Write::DeliverOwed { .. }
            | Write::Log(_)
            | Write::Record(_)
            | Write::Receiver(_)
            | Write::TokensUsed(_)
            | Write::TakeOver(_)
            | Write::Leave
            | Write::ForgetNodes => {}
        }
    }

    /// Adds the inboxes that grew.
    pub(super) fn with_growth(mut self, published: &[Published]) -> Self {
        let grown = published.iter().filter_map(|published| match published {
            Published::Row {
                workspace,
                activity_type: ActivityType::A2aReceive,
                ..
            } => Some(workspace.0),
            Published::Row { .. } | Published::Event { .. } => None,
        });
        self.inboxes.extend(grown);
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Whether a patch changes what [`Seat`](crate::domain::Seat) holds. Most are signs of life, which do not.
fn decides(patch: &WorkspacePatch) -> bool {
    let WorkspacePatch {
        parent,
        can_delegate,
        max_concurrent_tasks,
        status,
        agent_card,
        credentials,
        name: _,
        role: _,
        tier: _,
        runtime: _,
        collapsed: _,
        place: _,
        heartbeat: _,
    } = patch;
    parent.is_some()
        || can_delegate.is_some()
        || max_concurrent_tasks.is_some()
        || status.is_some()
        || agent_card.is_some()
        || credentials.is_some()
}
