//! Whether the database answers: while it does not, nobody waits to find out again what somebody just found out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// Lets everyone pass while the database answers; while it does not, one at a time, who finds out whether it does again.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker(Arc<State>);

#[derive(Debug, Default)]
struct State {
    away: AtomicBool,
    probing: AtomicBool,
    answered: Mutex<Option<Instant>>,
}

/// The right to ask, and whether it is only to find out; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass(Option<Breaker>);

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(breaker) = &self.0 {
            breaker.0.probing.store(false, Ordering::Release);
        }
    }
}

impl Pass {
    pub(super) const fn finds_out(&self) -> bool {
        self.0.is_some()
    }
}

impl Breaker {
    /// None when the database is away and somebody is finding out.
    pub(super) fn pass(&self) -> Option<Pass> {
        if !self.0.away.load(Ordering::Acquire) {
            return Some(Pass(None));
        }
        let taken = self.0.probing.swap(true, Ordering::AcqRel);
        (!taken).then(|| Pass(Some(self.clone())))
    }

    /// When it last answered anybody; `asked` when that was longer ago.
    pub(super) fn last_sign(&self, asked: Instant) -> Instant {
        let answered = self
            .0
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        answered.map_or(asked, |answered| answered.max(asked))
    }

    /// Whether it is known not to answer.
    pub(super) fn is_away(&self) -> bool {
        self.0.away.load(Ordering::Acquire)
    }

    pub(super) fn note(&self, answers: bool) {
        if answers {
            let mut answered = self
                .0
                .answered
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *answered = Some(Instant::now());
        }
        let was_away = self.0.away.swap(!answers, Ordering::AcqRel);
        match (was_away, answers) {
            (false, false) => tracing::error!("the database does not answer; reads are refused"),
            (true, true) => tracing::info!("the database answers again"),
            (false, true) | (true, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_away_one_at_a_time_finds_out() {
        let breaker = Breaker::default();
        let passes = [breaker.pass(), breaker.pass()];
        assert!(passes.iter().all(Option::is_some));
        breaker.note(false);
        let probe = breaker.pass();
        assert!(probe.is_some() && breaker.pass().is_none());
        drop(probe);
        assert!(breaker.pass().is_some());
        breaker.note(true);
        let passes = [breaker.pass(), breaker.pass()];
        assert!(passes.iter().all(Option::is_some));
    }
}
