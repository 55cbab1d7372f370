//! The calls that this process has in flight, so that a rebuilt actor knows whether an answer may still come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashSet;
use tokio::sync::Notify;

use super::Registry;
use crate::domain::{Attempt, DelegationKey};

/// Which attempts wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    under_way: DashSet<(DelegationKey, Attempt)>,
    count: AtomicUsize,
    ended: Notify,
}

/// One call, for as long as it is held.
pub(super) struct UnderWay {
    expected: Expected,
    call: (DelegationKey, Attempt),
}

/// A call that may come, or has come, for as long as it is held.
#[derive(Debug)]
pub(super) struct Expected(Arc<Registry>);

impl Calls {
    /// Notes a call.
    pub(super) fn begin(
        registry: &Arc<Registry>,
        key: &DelegationKey,
        attempt: Attempt,
    ) -> UnderWay {
        let call = (key.clone(), attempt);
        registry.calls.under_way.insert(call.clone());
        metrics::gauge!("baton_calls_in_flight").increment(1);
        UnderWay {
            expected: Self::expect(registry),
            call,
        }
    }

    /// Whoever waits until no call is in flight waits for this one, too.
    pub(super) fn expect(registry: &Arc<Registry>) -> Expected {
        registry.calls.count.fetch_add(1, Ordering::AcqRel);
        Expected(Arc::clone(registry))
    }

    /// Whether that attempt waits for an answer.
    pub(super) fn contains(&self, key: &DelegationKey, attempt: Attempt) -> bool {
        self.under_way.contains(&(key.clone(), attempt))
    }

    /// How many wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// Waits until none is in flight.
    pub(super) async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Expected(registry) = &self.expected;
        registry.calls.under_way.remove(&self.call);
        metrics::gauge!("baton_calls_in_flight").decrement(1);
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let Self(registry) = self;
        registry.calls.count.fetch_sub(1, Ordering::AcqRel);
        registry.calls.ended.notify_waiters();
    }
}
