//! The persistence actor: batches what arrives, commits it, and only then acknowledges.

use std::sync::Arc;
use std::time::Duration;

use crate::store::{Write, Written};

/// Why a write was not committed.
#[derive(thiserror::Error, Clone, Debug)]
pub enum Error {
    /// The database is away; nothing was promised. Also when it is not known whether the commit happened.
    #[error("the database is unavailable")]
    Unavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// Too many writes wait.
    #[error("too many writes are waiting")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database refused this very write.
    #[error("the database refused the write: {0}")]
    Refused(Arc<str>),
}

/// The way to the persistence actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Persistence;

impl Persistence {
    /// Commits a write on behalf of a request. It goes on when the caller stops waiting.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write(&self, _write: Write) -> Result<Written, Error> {
        todo!()
    }

    /// Whether the last commit succeeded, so that `/health` may say so.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        todo!()
    }
}
