//! Since when this node hears without a break: what others did or did not do before that, it cannot know (lesson R04).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::domain::Timestamp;

/// How long a node hears without a break. A break is a process that was stopped, or a database that was away.
#[derive(Debug)]
pub(super) struct Hearing {
    since: AtomicI64,
    last: AtomicI64,
    /// Two signs that are further apart have a break between them.
    longest_pause: Duration,
}

impl Hearing {
    /// From now on. A sign is expected at least every `longest_pause`.
    pub(super) const fn begin(now: Timestamp, longest_pause: Duration) -> Self {
        Self {
            since: AtomicI64::new(now.0),
            last: AtomicI64::new(now.0),
            longest_pause,
        }
    }

    /// A commit succeeded: a sign.
    pub(super) fn sign(&self, now: Timestamp) {
        if now.since(Timestamp(self.last.load(Ordering::Acquire))) > self.longest_pause {
            self.since.store(now.0, Ordering::Release);
        }
        self.last.store(now.0, Ordering::Release);
    }

    /// Since when, as far as is known now; now itself while the next sign is overdue.
    pub(super) fn since(&self, now: Timestamp) -> Timestamp {
        if now.since(Timestamp(self.last.load(Ordering::Acquire))) > self.longest_pause {
            return now;
        }
        Timestamp(self.since.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hearing_begins_anew_after_a_break() {
        let at = |milliseconds: i64| Timestamp(milliseconds * 1000);
        let hearing = Hearing::begin(at(0), Duration::from_millis(2500));
        hearing.sign(at(2000));
        assert_eq!(hearing.since(at(4500)), at(0));
        assert_eq!(hearing.since(at(4501)), at(4501), "nothing is known");
        hearing.sign(at(7000));
        assert_eq!(hearing.since(at(8000)), at(7000));
        hearing.sign(at(9500));
        assert_eq!(hearing.since(at(9600)), at(7000));
    }
}
