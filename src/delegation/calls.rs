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
    registry: Arc<Registry>,
    call: (DelegationKey, Attempt),
}

impl Calls {
    /// Notes a call.
    pub(super) fn begin(
        registry: &Arc<Registry>,
        key: &DelegationKey,
        attempt: Attempt,
    ) -> UnderWay {
        let call = (key.clone(), attempt);
        registry.calls.under_way.insert(call.clone());
        registry.calls.count.fetch_add(1, Ordering::AcqRel);
        metrics::gauge!("baton_calls_in_flight").increment(1);
        UnderWay {
            registry: Arc::clone(registry),
            call,
        }
    }

    /// Whether that attempt waits for an answer.
    pub(super) fn contains(&self, key: &DelegationKey, attempt: Attempt) -> bool {
        self.under_way.contains(&(key.clone(), attempt))
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
        let calls = &self.registry.calls;
        calls.under_way.remove(&self.call);
        calls.count.fetch_sub(1, Ordering::AcqRel);
        metrics::gauge!("baton_calls_in_flight").decrement(1);
        calls.ended.notify_waiters();
    }
}
