//! The persistence actor: batches what arrives, commits each batch as one transaction, and only then acknowledges.

mod batch;
mod gate;
mod hearing;
mod order;
mod owed;
mod retention;
mod uses;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::Addr;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::domain::{NodeId, Timestamp};
use crate::store::{Lease, Write, Written};
use hearing::Hearing;

pub use batch::{BatchLimits, FlushReason};
pub use gate::{Errand, Gate, GateLimits, Reason, Refused, Ticket};
pub use owed::deliver_owed_replies;
pub use retention::{Interrupted, Retention, prune, prune_regularly};
pub use uses::{note_token_uses, note_token_uses_regularly};
pub use writer::{PersistenceActor, PersistenceSettings};

/// How many commands may wait for a commit before more are refused. Changes of admitted delegations are not counted:
/// each delegation has at most one waiting, so that `BATON_MAX_LIVE` bounds them.
pub const COMMAND_QUEUE: usize = 20_000;

/// How long a request waits for its commit while others are committed. The write goes on all the same.
const COMMAND_WAIT: Duration = Duration::from_secs(5);

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

impl Error {
    /// The database is away.
    pub(crate) const UNAVAILABLE: Self = Self::Unavailable {
        retry_after: Duration::from_secs(1),
    };
}

/// Told once a write is committed, or will not be.
pub type Acknowledge = Box<dyn FnOnce(Result<Written, Error>) + Send>;

/// How a write is treated when the database is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Somebody waits for an answer: fail it back at once.
    Command,
    /// It must not be lost: keep it until it is committed.
    Change,
}

/// A write on its way to the actor.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct Append {
    pub(crate) write: Write,
    pub(crate) patience: Patience,
    pub(crate) acknowledge: Acknowledge,
}

impl Append {
    /// A write that nobody waits for.
    fn unheard(write: Write) -> Self {
        Self {
            write,
            patience: Patience::Change,
            acknowledge: Box::new(drop),
        }
    }
}

/// Asks to commit everything that waits; answered when nothing waits any more.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub(crate) done: oneshot::Sender<()>,
    /// Whether nothing more is to be committed after that.
    pub(crate) for_good: bool,
}

/// What others may see of the actor.
#[derive(Debug)]
pub(crate) struct Gauges {
    pub(crate) writing: watch::Sender<bool>,
    pub(crate) commands: AtomicUsize,
    gate: Arc<Gate>,
    hearing: Hearing,
}

/// The way to the persistence actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Persistence {
    actor: Addr<PersistenceActor>,
    gauges: Arc<Gauges>,
    lease: Lease,
}

impl Persistence {
    /// Hands a write over; `acknowledge` is called exactly once unless the process dies first.
    pub fn submit(&self, write: Write, patience: Patience, acknowledge: Acknowledge) {
        if patience == Patience::Command {
            if !self.is_writing() {
                return acknowledge(Err(Error::UNAVAILABLE));
            }
            if self.gauges.commands.fetch_add(1, Ordering::Relaxed) >= COMMAND_QUEUE {
                self.gauges.commands.fetch_sub(1, Ordering::Relaxed);
                return acknowledge(Err(Error::Overloaded {
                    retry_after: Duration::from_secs(1),
                }));
            }
        }
        self.gauges.gate.submitted();
        self.actor.do_send(Append {
            write,
            patience,
            acknowledge,
        });
    }

    /// Commits a write on behalf of a request. It goes on when the caller stops waiting.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn write(&self, write: Write) -> Result<Written, Error> {
        let (sender, receiver) = oneshot::channel();
        // A requester that stopped waiting is no reason to do anything else.
        let acknowledge = move |result| drop(sender.send(result));
        self.submit(write, Patience::Command, Box::new(acknowledge));
        match self.unless_away(receiver).await {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(Error::UNAVAILABLE),
        }
    }

    /// Waits for what needs the database, on behalf of a request: until there is an answer, the database turns out to
    /// be away, or it takes too long all the same. Whatever was begun goes on.
    pub async fn unless_away<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut writing = self.gauges.writing.subscribe();
        tokio::select! {
            biased;
            done = tokio::time::timeout(COMMAND_WAIT, work) => done.ok(),
            _ = writing.wait_for(|writing| !writing) => None,
        }
    }

    /// Whether the last commit succeeded and the present one takes no longer than usual, so that `/health` may say so.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        *self.gauges.writing.borrow()
    }

    /// The gate that requests pass before they write.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gauges.gate
    }

    /// Waits for the next time that writing works again after it did not: what was begun before may have been committed
    /// without anybody hearing of it.
    pub async fn recovered(&self) {
        let mut writing = self.gauges.writing.subscribe();
        for now in [false, true] {
            // The actor is gone: then nothing is ever written again.
            if writing.wait_for(|writing| *writing == now).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Which node writes here.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.lease.node()
    }

    /// How long others wait for a sign of this node, and this one for theirs.
    #[must_use]
    pub const fn lease_length(&self) -> Duration {
        self.lease.length()
    }

    /// Since when this node hears what happens without a break: its start, or the end of the last time that it was
    /// stopped or the database away. What did not happen before that may only have gone unheard (lesson R04).
    #[must_use]
    pub fn hearing_since(&self) -> Timestamp {
        self.gauges.hearing.since(clock::now())
    }

    /// Waits until nothing waits to be committed.
    pub async fn drain(&self) {
        self.drained(false).await;
    }

    /// Waits until nothing waits to be committed, and gives up the lease: nothing more is committed after that, and
    /// whoever comes next takes over at once.
    pub async fn leave(&self) {
        self.drained(true).await;
    }

    async fn drained(&self, for_good: bool) {
        let (done, receiver) = oneshot::channel();
        self.actor.do_send(Drain { done, for_good });
        // The actor is gone: then nothing waits.
        drop(receiver.await);
    }
}

#[cfg(test)]
mod tests;
