//! What is old is forgotten, but for what a promise rests on.

use std::sync::Arc;
use std::time::Duration;

use baton::domain::*;
use baton::events::EventHub;
use baton::faults::Faults;
use baton::persistence::{
    self, BatchLimits, GateLimits, PersistenceActor, PersistenceSettings, Retention,
};
use baton::store::*;
use tokio::sync::Notify;

use crate::support::*;

const NOW: Timestamp = Timestamp(1_900_000_000_000_000);

fn days(number: u64) -> Duration {
    Duration::from_hours(24 * number)
}

/// A row of that age.
fn row(workspace: WorkspaceId, activity_type: ActivityType, age: u64) -> FeedRow {
    FeedRow {
        activity_type,
        created_at: NOW.minus(days(age)),
        ..log_row(workspace)
    }
}

/// One portion of the feed that begins after `after`, with the limits of 7 and 30 days.
fn portion(workspace: WorkspaceId, after: i64, limit: i64) -> Write {
    Write::Prune(Prune {
        workspace,
        after: Position(after),
        limit,
        before: NOW.minus(days(7)),
        hard_before: NOW.minus(days(30)),
    })
}

/// How many went, and where the next portion begins.
fn pruned(store: &TestStore, write: Write) -> (usize, Option<i64>) {
    match store.write(write) {
        Written::Pruned { deleted, next } => (deleted, next.map(|place| place.0)),
        other => panic!("{other:?}"),
    }
}

fn places(store: &TestStore, workspace: WorkspaceId) -> Vec<i64> {
    let rows = activity(store, everything(workspace));
    rows.iter().rev().map(|row| row.position.0).collect()
}

pub(crate) fn what_is_old_goes_and_what_nobody_read_stays(store: &TestStore) {
    use ActivityType::{A2aReceive, AgentLog};
    let [reader, silent] = [created(store, None), created(store, None)];
    let rows = [
        row(reader, AgentLog, 10),
        row(reader, A2aReceive, 10),
        row(reader, A2aReceive, 10),
        row(reader, AgentLog, 10),
        row(reader, AgentLog, 1),
        row(reader, AgentLog, 1),
        row(silent, A2aReceive, 40),
        row(silent, AgentLog, 40),
        row(silent, A2aReceive, 10),
    ];
    store.commit(&rows.iter().map(log).collect::<Vec<_>>());
    store.write(Write::Acknowledge {
        workspace: reader,
        upto: Position(2),
    });
    assert_eq!(pruned(store, portion(reader, 0, 2)), (2, Some(2)));
    assert_eq!(pruned(store, portion(reader, 2, 2)), (1, Some(4)));
    // A full portion that is young is the last one.
    assert_eq!(pruned(store, portion(reader, 4, 2)), (0, None));
    assert_eq!(places(store, reader), [3, 5, 6]);
    assert_eq!(pruned(store, portion(reader, 0, 100)), (0, None));

    assert_eq!(pruned(store, portion(silent, 0, 100)), (2, None));
    assert_eq!(places(store, silent), [9]);
    // What was acknowledged stays so, and positions are never given twice.
    store.commit(&[portion(silent, 0, 100), log(&row(silent, AgentLog, 0))]);
    assert_eq!(places(store, silent), [9, 10]);
}

pub(crate) fn a_pruned_ending_is_neither_missed_nor_written_again(store: &TestStore) {
    let terms = begun(store);
    let ending = advance(&terms, 2, &completed("42"));
    store.write(Write::Advance(Arc::new(ending.clone())));
    let violations = |pruned_before: Timestamp| {
        let limits = AuditLimits {
            pruned_before,
            ..AuditLimits::default()
        };
        let audited = store
            .read(move |reader| reader.audit(None, 10, limits))
            .rows;
        audited.iter().flat_map(audit).count()
    };
    let after_it = ending.at.plus(Duration::from_secs(1));
    assert_eq!((violations(Timestamp(0)), violations(after_it)), (0, 0));

    let caller = terms.key.caller;
    assert_eq!(pruned(store, portion(caller, 0, 100)), (3, None));
    assert_eq!((violations(after_it), violations(Timestamp(0))), (0, 2));

    // The same change again, and another one that ends it: the delegation's row knows better.
    let again = store.write(Write::Advance(Arc::new(ending)));
    assert!(matches!(again, Written::Advanced), "{again:?}");
    let other = store.write(advance_write(&terms, 2, &failed("no")));
    assert!(matches!(other, Written::Stale), "{other:?}");
    assert_eq!(places(store, caller), [0; 0]);
    assert_eq!(loaded(store, &terms.key).life.status(), Status::Completed);
}

pub(crate) fn one_round_goes_through_every_feed(store: &TestStore) {
    let [large, gone] = [created(store, None), created(store, None)];
    let old = || row(large, ActivityType::AgentLog, 8);
    let mut writes: Vec<Write> = (0..1_200).map(|_| log(&old())).collect();
    writes.extend([
        log(&row(gone, ActivityType::AgentLog, 8)),
        log(&row(large, ActivityType::AgentLog, 6)),
    ]);
    for age in [31, 29] {
        let mut event = event(large);
        event.created_at = NOW.minus(days(age));
        writes.push(Write::Record(Box::new(event)));
    }
    store.commit(&writes);
    // A feed outlives its workspace, when an ending comes after the purge.
    store.sql(&format!("DELETE FROM workspaces WHERE id = '{gone}'"));

    let retention = Retention {
        keep: days(7),
        keep_hard: days(30),
        interval: Duration::from_hours(6),
    };
    let round = || {
        actix::System::new().block_on(async {
            let settings = PersistenceSettings {
                store: store.store.clone(),
                lease: store.lease.clone(),
                hub: EventHub::default(),
                limits: BatchLimits {
                    size: 64,
                    linger: Duration::ZERO,
                },
                gate: GateLimits::default(),
                reply_owed: Arc::new(Notify::new()),
                faults: Arc::new(Faults::default()),
            };
            let persistence =
                PersistenceActor::launch(settings, store.writer(), &actix::Arbiter::new().handle());
            persistence::prune(&store.store, &persistence, &retention, NOW).await
        })
    };
    assert_eq!(round().unwrap(), 1_202);
    assert_eq!(round().unwrap(), 0);
    assert_eq!(places(store, large), [1_202]);
    assert_eq!(store.number("SELECT count(*) FROM activity_logs"), 1);
    assert_eq!(store.number("SELECT count(*) FROM structure_events"), 1);
}
