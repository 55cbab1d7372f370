//! What a writing connection knows between two commits: under which lease it writes, and what it saw of the others.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Commit, Span};
use crate::domain::NodeId;

/// What makes this process a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(super) node: NodeId,
    pub(super) length: Duration,
    /// With SQLite, the sole right to the database, for as long as it is open.
    pub(super) _claim: Option<Arc<File>>,
    /// When the database last answered one of its statements.
    pub(super) progress: Arc<Mutex<Option<Instant>>>,
    /// How many of this node's connections broke off in a commit.
    pub(super) broken: Arc<AtomicU64>,
}

impl Lease {
    /// The number of the connections that are opened now: a higher one after each that broke off.
    pub(super) fn session(&self) -> u64 {
        self.broken.load(Ordering::Acquire)
    }

    /// A commit broke off, and may succeed all the same: what its connection tells from now on is not what this node
    /// knows it has committed.
    pub(super) fn broke_off(&self) {
        self.broken.fetch_add(1, Ordering::AcqRel);
    }

    /// Who this process is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// How long others wait for a sign of it before they take over.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// When the database last answered a statement of a commit, if that was after `began`: a commit of many writes may
    /// take its time, one that gets no answer is stuck.
    #[must_use]
    pub fn progress_since(&self, began: Instant) -> Instant {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.map_or(began, |progress| progress.max(began))
    }

    /// How often it is renewed.
    #[must_use]
    pub fn renewal(&self) -> Duration {
        self.length / 4
    }
}

/// A connection that writes under a lease.
pub(super) struct Leased<C> {
    pub(super) connection: C,
    pub(super) session: Session,
}

impl<C> Leased<C> {
    pub(super) fn new(connection: C, lease: &Lease) -> Self {
        Self {
            connection,
            session: Session::new(lease.clone()),
        }
    }
}

/// The memory of a connection that writes.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) lease: Lease,
    /// The number that its words to other nodes bear.
    pub(super) number: u64,
    renewed: Option<Instant>,
    /// Whether there was no other node when it last committed.
    pub(super) alone: bool,
}

impl Session {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            number: lease.session(),
            lease,
            renewed: None,
            alone: false,
        }
    }

    /// Notes that the database answered.
    pub(super) fn progressed(&self) {
        let mut progress = self
            .lease
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *progress = Some(Instant::now());
    }

    /// For how long to renew the lease now, if it is time.
    pub(super) fn renewal(&self, asked: bool) -> Option<Duration> {
        let due = self
            .renewed
            .is_none_or(|renewed| renewed.elapsed() >= self.lease.renewal());
        (asked || due).then_some(self.lease.length)
    }

    /// Notes that a transaction that began then is committed.
    pub(super) fn committed(&mut self, began: Instant, attempt: Attempt) -> Commit {
        if attempt.renewed {
            self.renewed = Some(began);
        }
        Commit {
            span: attempt.span,
            ..attempt.commit
        }
    }
}

/// A transaction's answer, and what the session is to remember of it.
pub(super) struct Attempt {
    pub(super) commit: Commit,
    pub(super) renewed: bool,
    pub(super) span: Option<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewal() -> Attempt {
        Attempt {
            commit: Commit::default(),
            renewed: true,
            span: None,
        }
    }

    #[test]
    fn a_lease_is_renewed_once_a_quarter_of_it_has_passed_or_when_asked() {
        let length = Duration::from_mins(1);
        let mut session = Session::new(Lease {
            node: NodeId::mint(),
            length,
            _claim: None,
            progress: Arc::default(),
            broken: Arc::default(),
        });
        assert_eq!(session.renewal(false), Some(length));
        let began = Instant::now();
        session.committed(began, renewal());
        assert_eq!(session.renewal(false), None);
        assert_eq!(session.renewal(true), Some(length));
        let earlier = began.checked_sub(length / 4).unwrap();
        session.committed(earlier, renewal());
        assert_eq!(session.renewal(false), Some(length));
    }
}
