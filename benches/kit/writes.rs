//! Delegations, and what is committed of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use baton::domain::{
    Accept, Advance, Attempt, DelegationId, DelegationKey, Ended, Ending, Incarnation, Life,
    NewDelegation, Origin, Priority, Redelivery, Revision, State, Terms, Timestamp, WorkspaceId,
    accepted_feed, advanced_feed,
};
use baton::store::Write;

/// An instant of its own for each call, in the order of the calls.
fn tick() -> Timestamp {
    static NOW: AtomicI64 = AtomicI64::new(1_800_000_000_000_000);
    Timestamp(NOW.fetch_add(1_000, Ordering::Relaxed))
}

/// So many beginnings of delegations, over 64 callers.
pub(crate) fn accepts(count: usize) -> Vec<Accept> {
    let callers: Vec<WorkspaceId> = (0..64).map(|_| WorkspaceId::mint()).collect();
    let target = WorkspaceId::mint();
    let begin = |caller: &WorkspaceId| {
        let created_at = tick();
        let terms = Terms {
            key: DelegationKey {
                caller: *caller,
                id: DelegationId::mint(),
            },
            target: Some(target),
            origin: Origin::Delegated,
            redelivery: Redelivery::default(),
            priority: Priority::default(),
            deadline: created_at.plus(Duration::from_hours(6)),
            created_at,
            traceparent: None,
        };
        let delegation = NewDelegation {
            terms,
            task: "x".repeat(200).into(),
            idempotency: None,
            state: State::Pending,
            retry_of: None,
            parent: None,
            envelope: None,
        };
        let feed = accepted_feed(&delegation, "target");
        Accept {
            delegation,
            feed,
            sent: None,
        }
    };
    callers.iter().cycle().take(count).map(begin).collect()
}

pub(crate) fn accept(accept: &Accept) -> Write {
    Write::Accept(Box::new(accept.clone()))
}

/// The ending of a delegation that has just begun, with its result row, reply and event.
pub(crate) fn ending(accept: &Accept) -> Write {
    let terms = &accept.delegation.terms;
    let at = tick();
    let text = "x".repeat(200).into();
    let life = Life {
        attempt: Attempt(1),
        state: State::Ended(Box::new(Ended {
            ending: Ending::Completed { text },
            at,
            late: None,
        })),
    };
    let feed = advanced_feed(terms, &Life::new(State::Pending), &life, true, at);
    Write::Advance(Arc::new(Advance {
        key: terms.key.clone(),
        revision: Revision(1),
        incarnation: Incarnation(0),
        life,
        at,
        raw_reply: None,
        feed,
        told: true,
    }))
}
