//! Delegations as supervised actors.

use std::time::Duration;

use crate::domain::{
    DelegationId, DelegationKey, Ending, NewDelegation, Report, Status, WorkspaceId,
};
use crate::store::Acceptance;

/// Why a command could not be carried out.
#[derive(thiserror::Error, Clone, Debug)]
pub enum Error {
    /// The database is away, or refuses; try again.
    #[error("the database is unavailable")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// A limit of this node is reached.
    #[error("{limit} is reached")]
    Overloaded {
        /// Which limit.
        limit: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
}

/// What became of a report.
#[derive(Clone, Debug)]
pub enum Reported {
    /// It ended the delegation.
    Ended,
    /// The same ending was recorded before.
    Repeat(Ending),
    /// Another ending was recorded before.
    Contradiction(Ending),
}

/// The way to the delegations. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Delegations;

impl Delegations {
    /// Begins a delegation. `target_as_sent` is the target in the caller's spelling. Goes on when the caller hangs up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn begin(
        &self,
        _delegation: NewDelegation,
        _target_as_sent: &str,
    ) -> Result<Acceptance, Error> {
        todo!()
    }

    /// Reports an ending on behalf of `reporter`, who is the caller or the target; an id that it does not know is
    /// adopted as its own. Goes on when the caller hangs up.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn report(
        &self,
        _reporter: WorkspaceId,
        _id: DelegationId,
        _report: Report,
    ) -> Result<Reported, Error> {
        todo!()
    }

    /// How many are live on this node, by status.
    #[must_use]
    pub fn live(&self) -> Vec<(Status, usize)> {
        todo!()
    }

    /// Whether an actor of this node takes care of it.
    #[must_use]
    pub fn is_live(&self, _key: &DelegationKey) -> bool {
        todo!()
    }
}
