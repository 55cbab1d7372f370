//! Feeds: order, paging, filters, acknowledgements.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use baton::domain::*;
use baton::store::*;

use crate::support::*;

pub(crate) fn rows_of_one_instant_page_without_loss(store: &TestStore) {
    let workspace = created(store, None);
    let at = tick();
    let rows: Vec<FeedRow> = (0..1_000)
        .map(|_| FeedRow {
            created_at: at,
            ..log_row(workspace)
        })
        .collect();
    store.commit(&rows.iter().map(log).collect::<Vec<_>>());
    let written: Vec<ActivityId> = rows.iter().filter_map(|row| row.id).collect();
    let (mut forward, mut after) = (Vec::new(), Position(0));
    loop {
        let filter = ActivityFilter {
            after_position: Some(after),
            limit: 7,
            ..everything(workspace)
        };
        let page = activity(store, filter);
        let Some(last) = page.last() else { break };
        after = last.position;
        forward.extend(page.iter().map(|row| row.id));
    }
    assert_eq!(forward, written);
    let (mut backward, mut before) = (Vec::new(), None);
    loop {
        let filter = ActivityFilter {
            before_position: before,
            limit: 7,
            ..everything(workspace)
        };
        let page = activity(store, filter);
        let Some(last) = page.last() else { break };
        before = Some(last.position);
        backward.extend(page.iter().map(|row| row.id));
    }
    backward.reverse();
    assert_eq!(backward, written);
}

pub(crate) fn filters_hold_together(store: &TestStore) {
    let [own, peer, other] = std::array::from_fn(|_| created(store, None));
    let canvas = FeedRow {
        method: Some("notify".into()),
        ..log_row(own)
    };
    let sent = FeedRow {
        activity_type: ActivityType::A2aSend,
        source: Some(own),
        target: Some(peer),
        request_body: Some(Json(r#"{"a": [1, null]}"#.into())),
        duration_ms: Some(12),
        error_detail: Some("e".into()),
        summary: Some("s".into()),
        ..log_row(own)
    };
    let taken = FeedRow {
        activity_type: ActivityType::A2aReceive,
        source: Some(peer),
        ..log_row(own)
    };
    let foreign = log_row(other);
    let commit = store.commit(&[log(&canvas), log(&sent), log(&taken), log(&foreign)]);
    assert!(matches!(
        commit.written[..],
        [Written::Logged(_), .., Written::Logged(Position(4))]
    ));
    each_filter(store, [&canvas, &sent, &taken], peer);
    reads_back(store, &sent, peer);
}

fn each_filter(store: &TestStore, [canvas, sent, taken]: [&FeedRow; 3], peer: WorkspaceId) {
    let own = sent.workspace;
    let ids = |filter| {
        activity(store, filter)
            .into_iter()
            .map(|row| row.id)
            .collect::<Vec<_>>()
    };
    let [taken_id, sent_id, canvas_id] = [taken, sent, canvas].map(|row| row.id.unwrap());
    let base = || everything(own);
    let text = |word: &str| Some(word.to_owned());
    assert_eq!(ids(base()), [taken_id, sent_id, canvas_id]);
    assert_eq!(
        ids(ActivityFilter {
            activity_type: text("a2a_send"),
            ..base()
        }),
        [sent_id]
    );
    assert_eq!(
        ids(ActivityFilter {
            activity_type: text("no such"),
            ..base()
        }),
        []
    );
    let source = |filter| ActivityFilter {
        source: Some(filter),
        ..base()
    };
    assert_eq!(ids(source(SourceFilter::Canvas)), [canvas_id]);
    assert_eq!(ids(source(SourceFilter::Agent)), [taken_id, sent_id]);
    assert_eq!(
        ids(ActivityFilter {
            peer: Some(peer),
            ..base()
        }),
        [taken_id, sent_id]
    );
    assert_eq!(
        ids(ActivityFilter {
            since: Some(sent.created_at),
            ..base()
        }),
        [taken_id, sent_id]
    );
    assert_eq!(
        ids(ActivityFilter {
            before: Some(sent.created_at),
            ..base()
        }),
        [canvas_id]
    );
    let after = ActivityFilter {
        after_position: Some(Position(1)),
        limit: 1,
        ..base()
    };
    assert_eq!(ids(after), [sent_id], "oldest first after a place");
    let narrow = ActivityFilter {
        peer: Some(peer),
        source: Some(SourceFilter::Agent),
        activity_type: text("a2a_receive"),
        since: Some(sent.created_at),
        before_position: Some(Position(4)),
        ..base()
    };
    assert_eq!(ids(narrow), [taken_id]);
}

fn reads_back(store: &TestStore, sent: &FeedRow, peer: WorkspaceId) {
    let (own, id) = (sent.workspace, sent.id.unwrap());
    let row = activity(store, everything(own)).remove(1);
    assert_eq!(
        (row.summary.as_deref(), row.error_detail.as_deref()),
        (Some("s"), Some("e"))
    );
    assert_eq!(
        (row.duration_ms, row.source, row.target),
        (Some(12), Some(own), Some(peer))
    );
    assert_eq!(row.created_at, sent.created_at);
    let body: serde_json::Value = serde_json::from_str(&row.request_body.unwrap().0).unwrap();
    assert_eq!(body, serde_json::json!({"a": [1, null]}));
    let places = store.read(move |reader| {
        Ok((
            reader.activity_position(own, id)?,
            reader.activity_position(peer, id)?,
        ))
    });
    assert_eq!(places, (Some(Position(2)), None));
    let nowhere = store.write(log(&log_row(WorkspaceId::mint())));
    assert!(matches!(nowhere, Written::Missing));
}

/// A row that bears no id is found by the one that follows from its place, in its own feed and as long as it is there.
pub(crate) fn a_row_is_found_by_its_place(store: &TestStore) {
    let terms = begun(store);
    let caller = terms.key.caller;
    store.commit(&[log(&log_row(caller))]);
    let row = activity(store, everything(caller)).pop().unwrap();
    assert_eq!(row.method.as_deref(), Some("delegate"));
    assert_eq!(row.id, ActivityId::of(row.position, row.created_at));
    let find = |workspace, id| store.read(move |reader| reader.activity_position(workspace, id));
    assert_eq!(find(caller, row.id), Some(row.position));
    assert_eq!(find(terms.target.unwrap(), row.id), None);
    let Position(place) = row.position;
    let later = row.created_at.plus(Duration::from_micros(1));
    for stranger in [
        ActivityId::of(row.position, later),
        ActivityId::of(Position(place + 1), row.created_at),
    ] {
        assert_eq!(find(caller, stranger), None, "of another database");
    }
    // The row that was logged has its own.
    let logged = activity(store, everything(caller)).remove(0);
    let by_place = ActivityId::of(logged.position, logged.created_at);
    assert_eq!(find(caller, logged.id), Some(logged.position));
    assert_eq!(find(caller, by_place), None);
}

pub(crate) fn the_delegate_row_shows_where_the_delegation_stands(store: &TestStore) {
    let terms = begun(store);
    let row = || activity(store, everything(terms.key.caller)).pop().unwrap();
    assert_eq!(
        (row().status.as_str(), row().error_detail),
        ("pending", None)
    );
    store.commit(&[advance_write(&terms, 2, &failed("broken"))]);
    assert_eq!(
        (row().method.as_deref(), row().status.as_str()),
        (Some("delegate"), "failed")
    );
    assert_eq!(row().error_detail.as_deref(), Some("broken"));
}

/// Lesson X02: once a reader has seen a place, no new row ever appears at or below it.
pub(crate) fn positions_follow_commits(store: &TestStore) {
    let workspace = created(store, None);
    let writers = if store.engine == Engine::Postgres {
        8
    } else {
        3
    };
    let done = AtomicBool::new(false);
    let (written, seen) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| poll_until(store, workspace, &done));
        let threads: Vec<_> = (0..writers)
            .map(|_| scope.spawn(|| write_at_random(store, workspace)))
            .collect();
        let holder = (store.engine == Engine::Postgres).then(|| scope.spawn(|| hold(store, &done)));
        let written: Vec<ActivityId> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        done.store(true, Ordering::SeqCst);
        if let Some(holder) = holder {
            holder.join().unwrap();
        }
        (written, reader.join().unwrap())
    });
    assert_eq!(seen.len(), written.len());
    assert_eq!(
        seen.into_iter().collect::<BTreeSet<_>>(),
        written.into_iter().collect()
    );
    let last = store.read(|reader| reader.last_position());
    let rows = store.number("SELECT count(*) FROM activity_logs");
    let events = store.number("SELECT count(*) FROM structure_events");
    assert_eq!(
        last.0,
        rows + events,
        "rows and events share one order without gaps"
    );
}

fn poll_until(store: &TestStore, workspace: WorkspaceId, done: &AtomicBool) -> Vec<ActivityId> {
    let (mut seen, mut after) = (Vec::new(), Position(0));
    loop {
        let last_look = done.load(Ordering::SeqCst);
        let filter = ActivityFilter {
            after_position: Some(after),
            ..everything(workspace)
        };
        for row in activity(store, filter) {
            assert!(row.position > after, "a place went backwards");
            after = row.position;
            seen.push(row.id);
        }
        if last_look {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn write_at_random(store: &TestStore, workspace: WorkspaceId) -> Vec<ActivityId> {
    let mut writer = store.writer();
    let mut ids = Vec::new();
    for _ in 0..40 {
        let rows: Vec<FeedRow> = (0..=rand::random::<u8>() % 5)
            .map(|_| log_row(workspace))
            .collect();
        let mut batch: Vec<Write> = rows.iter().map(log).collect();
        batch.push(Write::Record(Box::new(event(workspace))));
        writer.commit(&batch).unwrap();
        ids.extend(rows.iter().filter_map(|row| row.id));
        std::thread::sleep(Duration::from_millis(u64::from(rand::random::<u8>() % 8)));
    }
    ids
}

/// Stands for a slow node: takes the counter's lock, holds it, and gives it back without having taken a place.
fn hold(store: &TestStore, done: &AtomicBool) {
    let until = Instant::now() + Duration::from_secs(2);
    while !done.load(Ordering::SeqCst) && Instant::now() < until {
        store.sql(
            "BEGIN; UPDATE feed_position SET last = last; SELECT pg_sleep(random() * 0.1); COMMIT",
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn acknowledgements_only_grow(store: &TestStore) {
    let (one, two) = (created(store, None), created(store, None));
    let ack = |upto| Write::Acknowledge {
        workspace: one,
        upto: Position(upto),
    };
    let acked = |write| match store.write(write) {
        Written::Acknowledged(position) => position.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        acked(ack(5)),
        0,
        "an empty feed holds nothing to acknowledge"
    );
    store.commit(&[log(&log_row(one)), log(&log_row(one)), log(&log_row(two))]);
    assert_eq!(acked(ack(1)), 1);
    assert_eq!(acked(ack(999)), 2, "clamped to its own feed");
    assert_eq!(acked(ack(1)), 2, "never back");
    assert_eq!(acked(ack(-7)), 2);
    let read = store.read(move |reader| Ok((reader.acknowledged(one)?, reader.acknowledged(two)?)));
    assert_eq!(read, (Position(2), Position(0)));
}

pub(crate) fn events_are_read_in_order(store: &TestStore) {
    let (one, two) = (created(store, None), created(store, None));
    let events: Vec<FeedEvent> = (0..20)
        .map(|number| event(if number % 2 == 0 { one } else { two }))
        .collect();
    let record = |event: &FeedEvent| Write::Record(Box::new(event.clone()));
    let commit = store.commit(&events.iter().map(record).collect::<Vec<_>>());
    assert_eq!(commit.published.len(), 20);
    let ids = |views: Vec<EventView>| views.into_iter().map(|view| view.id).collect::<Vec<_>>();
    let all: Vec<EventId> = (1..)
        .zip(&events)
        .map(|(place, event)| EventId::of(Position(place), event.created_at))
        .collect();
    assert_eq!(
        ids(store.read(|reader| reader.events_after(None, Position(0), 100))),
        all
    );
    let newest = ids(store.read(|reader| reader.recent_events(None, 3)));
    assert_eq!(newest, [all[19], all[18], all[17]]);
    let own = store.read(move |reader| reader.events_after(Some(one), Position(4), 100));
    assert_eq!(own.len(), 8);
    assert!(
        own.iter()
            .all(|view| view.workspace == Some(one) && view.name == "WORKSPACE_ONLINE")
    );
    assert_eq!(
        ids(store.read(move |reader| reader.recent_events(Some(two), 1))),
        [all[19]]
    );
}
