//! The gate before everything that writes: it lets in what can be answered in time and refuses the rest at once.
//!
//! Whoever is let in holds a [`Ticket`] until it is answered. How many there may be follows from how fast the writer
//! commits and from what waits for it already; how many of them one workspace may hold, from how many are left.

mod books;
mod pace;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::WorkspaceId;
use crate::telemetry::TOTALS;
use books::{Books, Visit};

/// What a request is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// To begin work: the first to be refused.
    Begin,
    /// To write anything else.
    Report,
    /// To write nothing: only its body counts.
    Look,
}

/// Why a request is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// All tickets for its kind of errand are taken.
    Full,
    /// Its workspace holds its share of the tickets.
    Share,
    /// The bodies in flight are too large together.
    Bodies,
}

impl Reason {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Share => "share",
            Self::Bodies => "bodies",
        }
    }
}

/// A request was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// When to come again.
    pub retry_after: Duration,
}

/// Where the gate's limits lie.
#[derive(Clone, Copy, Debug)]
pub struct GateLimits {
    /// How long a write may wait for its commit, about.
    pub wait: Duration,
    /// Most bytes of bodies in flight.
    pub bodies: u64,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(250),
            bodies: 256 << 20,
        }
    }
}

/// The gate of a process.
#[derive(Debug)]
pub struct Gate {
    born: Instant,
    /// Writes that were handed over and are not answered yet.
    waiting: AtomicU64,
    books: Mutex<Books>,
}

impl Gate {
    /// A gate before a writer that commits at most `batch` writes at once.
    #[must_use]
    pub fn new(limits: GateLimits, batch: usize) -> Self {
        Self {
            born: Instant::now(),
            waiting: AtomicU64::new(0),
            books: Mutex::new(Books::new(limits, batch)),
        }
    }

    /// Lets a request in that brings a body of so many bytes, for a workspace or for the admin.
    ///
    /// # Errors
    /// When it is refused.
    pub fn enter(
        self: &Arc<Self>,
        workspace: Option<WorkspaceId>,
        errand: Errand,
        bytes: u64,
    ) -> Result<Ticket, Refused> {
        let visit = Visit {
            workspace,
            errand,
            bytes,
        };
        let (now, waiting) = (self.born.elapsed(), self.waiting.load(Ordering::Relaxed));
        let mut books = self.books();
        let reason = match books.enter(&visit, waiting, now) {
            Ok(newcomer) => {
                return Ok(Ticket {
                    gate: Arc::clone(self),
                    visit,
                    newcomer,
                });
            }
            Err(reason) => reason,
        };
        let retry_after = books.retry_after(waiting, rand::random(), now);
        let (said, wait) = (books.worth_saying(now), books.wait(waiting, now));
        drop(books);
        metrics::counter!("baton_requests_shed_total", "reason" => reason.as_str()).increment(1);
        TOTALS.shed();
        if let Some(refused) = said {
            tracing::warn!(
                reason = reason.as_str(),
                refused,
                waiting,
                wait_ms = wait.as_millis(),
                "more requests come than can be answered in time; some are refused"
            );
        }
        Err(Refused {
            reason,
            retry_after,
        })
    }

    /// How many writes were handed over and are not answered yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A write was handed over.
    pub(super) fn submitted(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A write was answered.
    pub(super) fn answered(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// A commit begins, alone or beside others.
    pub(super) fn commit_began(&self, beside: bool) {
        let now = self.born.elapsed();
        self.books().pace.began(now, beside);
    }

    /// A commit of so many writes is through; others are still under way, or none.
    pub(super) fn committed(&self, writes: usize, others: bool) {
        let (now, waiting) = (self.born.elapsed(), self.waiting.load(Ordering::Relaxed));
        let mut books = self.books();
        books
            .pace
            .committed(u64::try_from(writes).unwrap_or(u64::MAX), now, others);
        let (taken, allowed) = (books.tickets.taken, books.allowed(waiting, now));
        let (bodies, wait) = (books.bodies.taken, books.wait(waiting, now));
        drop(books);
        for (gauge, value) in [
            (metrics::gauge!("baton_tickets_taken"), taken),
            (metrics::gauge!("baton_tickets_allowed"), allowed),
            (metrics::gauge!("baton_body_bytes"), bodies),
        ] {
            gauge.set(u32::try_from(value).unwrap_or(u32::MAX));
        }
        metrics::histogram!("baton_write_wait_seconds").record(wait);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing under this lock panics; counts that are half right are better than none.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be served, given back when dropped: once everything that the request began is done.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    visit: Visit,
    newcomer: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.gate.books().leave(&self.visit, self.newcomer);
    }
}

#[cfg(test)]
mod tests;
