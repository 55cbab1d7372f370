//! What this process has counted and timed since it began, for its history: the same as in the metrics, but to be read back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Counts, Histogram};
use crate::domain::{Ending, ErrorClass};

/// How many classes of failures there are.
pub(super) const CLASSES: usize = ErrorClass::ALL.len();

/// The totals of this process.
pub static TOTALS: Totals = Totals::new();

/// Counters and times that only grow.
#[derive(Debug)]
pub struct Totals {
    accepted: AtomicU64,
    completed: AtomicU64,
    /// In the order of [`ErrorClass::ALL`].
    failed: [AtomicU64; CLASSES],
    cancelled: AtomicU64,
    shed: AtomicU64,
    /// From the wish to begin a delegation to its commit.
    pub acceptance: Histogram,
    /// Of one commit that wrote something.
    pub commit: Histogram,
    /// Of one call to a target.
    pub call: Histogram,
    /// From acceptance to ending.
    pub lasting: Histogram,
}

impl Totals {
    pub(super) const fn new() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            failed: [const { AtomicU64::new(0) }; CLASSES],
            cancelled: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            acceptance: Histogram::new(),
            commit: Histogram::new(),
            call: Histogram::new(),
            lasting: Histogram::new(),
        }
    }

    /// Counts a delegation whose beginning was committed.
    pub fn accepted(&self) {
        count(&self.accepted);
    }

    /// Counts a committed ending.
    pub fn ended(&self, ending: &Ending, lasted: Duration) {
        match ending {
            Ending::Completed { .. } => count(&self.completed),
            Ending::Cancelled { .. } => count(&self.cancelled),
            Ending::Failed { class, .. } => {
                let place = ErrorClass::ALL.iter().position(|other| other == class);
                if let Some(of_class) = place.and_then(|place| self.failed.get(place)) {
                    count(of_class);
                }
            }
        }
        self.lasting.record(lasted);
    }

    /// Counts a request that was refused for want of room.
    pub fn shed(&self) {
        count(&self.shed);
    }

    pub(super) fn now(&self) -> Snapshot {
        Snapshot {
            accepted: read(&self.accepted),
            completed: read(&self.completed),
            failed: std::array::from_fn(|place| self.failed.get(place).map_or(0, read)),
            cancelled: read(&self.cancelled),
            shed: read(&self.shed),
            acceptance: self.acceptance.counts(),
            commit: self.commit.counts(),
            call: self.call.counts(),
            lasting: self.lasting.counts(),
        }
    }
}

/// Counts a call to a target, with what came of it.
pub fn called(result: &'static str, took: Duration) {
    metrics::counter!("baton_calls_total", "result" => result).increment(1);
    metrics::histogram!("baton_call_seconds").record(took);
    TOTALS.call.record(took);
}

/// Counts a commit of so many writes.
pub fn committed(writes: usize, took: Duration) {
    metrics::histogram!("baton_commit_seconds").record(took);
    if writes > 0 {
        TOTALS.commit.record(took);
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The totals at some instant.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) accepted: u64,
    pub(super) completed: u64,
    pub(super) failed: [u64; CLASSES],
    pub(super) cancelled: u64,
    pub(super) shed: u64,
    pub(super) acceptance: Counts,
    pub(super) commit: Counts,
    pub(super) call: Counts,
    pub(super) lasting: Counts,
}
