//! The pure part: deciding an event, and building the rows of an ending.

#![expect(missing_docs, reason = "criterion's macro makes undocumented items")]

use std::time::Duration;

use baton::domain::{
    Attempt, Decision, DelegationId, DelegationKey, Event, Life, Moment, Origin, Outcome, Policy,
    Priority, Redelivery, RetryPolicy, State, Terms, Timestamp, Working, WorkspaceId,
    advanced_feed, transition,
};
use criterion::{Criterion, criterion_group, criterion_main};

fn answer(criterion: &mut Criterion) {
    let policy = Policy {
        retry: RetryPolicy::default(),
        give_up_after: Duration::from_hours(1),
        stuck_after: Duration::from_mins(10),
    };
    let terms = Terms {
        key: DelegationKey {
            caller: WorkspaceId::mint(),
            id: DelegationId::mint(),
        },
        target: Some(WorkspaceId::mint()),
        origin: Origin::Delegated,
        redelivery: Redelivery::default(),
        priority: Priority::default(),
        deadline: Timestamp(i64::MAX),
        created_at: Timestamp(0),
        traceparent: None,
    };
    let working = Working::dispatched(Timestamp(0));
    let life = Life {
        attempt: Attempt(1),
        state: State::Working(working),
    };
    let event = Event::Called {
        attempt: Attempt(1),
        outcome: Outcome::Answered {
            text: "x".repeat(200).into(),
        },
    };
    let moment = Moment {
        now: Timestamp(1),
        dice: 0.5,
        hearing_since: Timestamp(0),
    };
    criterion.bench_function("transition: answered", |bencher| {
        bencher.iter(|| transition(&policy, &terms, &life, &event, moment));
    });
    let Decision::Advance(step) = transition(&policy, &terms, &life, &event, moment) else {
        return;
    };
    criterion.bench_function("feed of an ending, with a reply", |bencher| {
        bencher.iter(|| advanced_feed(&terms, &life, &step.life, true, moment.now));
    });
}

criterion_group!(benches, answer);
criterion_main!(benches);
