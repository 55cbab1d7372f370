//! Leases: who may write, who takes over, what the others hear of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use baton::domain::*;
use baton::store::*;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::*;

/// An instant long ago, and one that is long to come, in the words of the engine.
fn long_ago(store: &TestStore) -> &'static str {
    match store.engine {
        Engine::Sqlite => "1000",
        Engine::Postgres => "'2020-01-01'",
    }
}

fn long_to_come(store: &TestStore) -> &'static str {
    match store.engine {
        Engine::Sqlite => "9000000000000000",
        Engine::Postgres => "'2200-01-01'",
    }
}

/// A node of which nothing is left but its row.
fn node(store: &TestStore, holder: Option<NodeId>, expires_at: &str, started_at: &str) -> NodeId {
    let id = NodeId::mint();
    let holder = holder.unwrap_or(id);
    store.sql(&format!(
        "INSERT INTO nodes (id, holder, expires_at, started_at) \
         VALUES ('{id}', '{holder}', {expires_at}, {started_at})"
    ));
    id
}

fn dead(store: &TestStore) -> NodeId {
    let started_at = match store.engine {
        Engine::Sqlite => "1",
        Engine::Postgres => "'2019-01-01'",
    };
    node(store, None, long_ago(store), started_at)
}

fn holder(store: &TestStore, id: NodeId) -> NodeId {
    let nodes = store.read(|reader| reader.nodes());
    nodes.iter().find(|node| node.id == id).unwrap().holder
}

/// A live delegation that another node accepted.
fn left_by(store: &TestStore, owner: NodeId) -> Terms {
    let terms = begun(store);
    let id = &terms.key.id;
    store.sql(&format!(
        "UPDATE delegations SET lease_owner = '{owner}' WHERE delegation_id = '{id}'"
    ));
    store.sql(&format!(
        "UPDATE delegations_live SET lease_owner = '{owner}' \
         WHERE number = (SELECT number FROM delegations WHERE delegation_id = '{id}')"
    ));
    terms
}

pub(crate) fn a_fenced_node_writes_nothing(store: &TestStore) {
    let terms = begun(store);
    let mut writer = store.writer();
    writer.commit(&[log(&log_row(terms.key.caller))]).unwrap();
    let own = store.lease.node();
    let other = NodeId::mint();
    store.sql(&format!(
        "UPDATE nodes SET holder = '{other}' WHERE id = '{own}'"
    ));
    let before = activity(store, everything(terms.key.caller)).len();
    for mut writer in [writer, store.writer()] {
        for writes in [
            vec![],
            vec![advance_write(&terms, 2, &completed("x"))],
            // Each would be refused for itself.
            vec![
                log(&log_row(terms.key.caller)),
                accept(&acceptance(terms.key.caller, terms.key.caller)),
            ],
        ] {
            let fenced = writer.commit(&writes);
            assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
        }
    }
    assert_eq!(loaded(store, &terms.key).revision, Revision(1));
    assert_eq!(activity(store, everything(terms.key.caller)).len(), before);
}

pub(crate) fn an_expired_lease_that_nobody_took_is_renewed(store: &TestStore) {
    let own = store.lease.node();
    let expired = || {
        let nodes = store.read(|reader| reader.nodes());
        nodes.iter().find(|node| node.id == own).unwrap().expired
    };
    let mut writer = store.writer();
    writer.commit(&[]).unwrap();
    assert!(!expired());
    let expire = || {
        store.sql(&format!(
            "UPDATE nodes SET expires_at = {}",
            long_ago(store)
        ));
    };
    expire();
    assert!(expired());
    writer.commit(&[]).unwrap();
    assert!(!expired());
    expire();
    // A connection that was just opened does not know how much of the lease has passed.
    store.commit(&[log(&log_row(created(store, None)))]);
    assert!(!expired());
}

pub(crate) fn everything_of_a_dead_node_is_taken_over(store: &TestStore) {
    let (dead, own) = (dead(store), store.lease.node());
    let earlier = node(store, Some(dead), long_ago(store), long_ago(store));
    let living = node(store, None, long_to_come(store), long_ago(store));
    let (first, second) = (left_by(store, dead), left_by(store, earlier));
    store.write(Write::TakeOver(Gone::Left));
    assert_eq!(holder(store, dead), dead, "it did not say that it left");
    store.write(Write::TakeOver(Gone::Expired));
    let holders = [dead, earlier, living, own].map(|node| holder(store, node));
    assert_eq!(holders, [own, own, living, own]);
    for (owner, terms) in [(dead, first), (earlier, second)] {
        let page = store.read(move |reader| reader.live(owner, None, 10));
        assert_eq!(page.rows.len(), 1);
        assert_eq!((page.rows[0].owner, &page.rows[0].terms), (owner, &terms));
        assert_eq!(page.last, number(store, &terms.key));
        let rest = store.read(move |reader| reader.live(owner, page.last, 10));
        assert!(rest.last.is_none());
        let written = store.write(advance_write(&terms, 2, &completed("x")));
        assert!(matches!(written, Written::Advanced), "{written:?}");
    }
}

pub(crate) fn a_node_that_left_is_taken_over_without_waiting(store: &TestStore) {
    let own = store.lease.node();
    let left = |node: NodeId| {
        store
            .read(move |reader| reader.nodes())
            .iter()
            .any(|view| view.id == node && view.expired)
    };
    store.write(Write::Leave);
    assert!(left(own));
    let before = Uuid::nil();
    // What was live before there were nodes belongs to one that left.
    if store.engine == Engine::Postgres {
        assert_eq!(holder(store, NodeId(before)), NodeId(before));
        let next = store.store.join(LEASE).unwrap();
        let mut writer = store.store.writer(&next).unwrap();
        writer.commit(&[Write::TakeOver(Gone::Left)]).unwrap();
        assert_eq!(holder(store, own), next.node());
        assert_eq!(holder(store, NodeId(before)), next.node());
    } else {
        assert_eq!(
            holder(store, NodeId(before)),
            own,
            "the file's lock proves the rest dead"
        );
    }
}

pub(crate) fn what_is_being_written_is_not_taken_over(store: &TestStore) {
    if store.engine == Engine::Sqlite {
        return;
    }
    let (dead, own) = (dead(store), store.lease.node());
    let mut late = PgConnection::establish(&store.url).unwrap();
    late.batch_execute(&format!(
        "BEGIN; SELECT id FROM nodes WHERE id = '{dead}' AND holder = '{dead}' FOR SHARE"
    ))
    .unwrap();
    store.write(Write::TakeOver(Gone::Expired));
    assert_eq!(holder(store, dead), dead);
    late.batch_execute("COMMIT").unwrap();
    store.write(Write::TakeOver(Gone::Expired));
    assert_eq!(holder(store, dead), own);
}

pub(crate) fn what_was_taken_over_is_written_no_more(store: &TestStore) {
    if store.engine == Engine::Sqlite {
        return;
    }
    let terms = begun(store);
    let mut writer = store.writer();
    writer.commit(&[]).unwrap();
    let mut taker = PgConnection::establish(&store.url).unwrap();
    let own = store.lease.node();
    taker
        .batch_execute(&format!(
            "BEGIN; UPDATE nodes SET holder = '{}' WHERE holder = '{own}'",
            NodeId::mint()
        ))
        .unwrap();
    let late = std::thread::spawn({
        let write = advance_write(&terms, 2, &completed("x"));
        move || writer.commit(&[write])
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while store.number(waiting) == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    taker.batch_execute("COMMIT").unwrap();
    let fenced = late.join().unwrap();
    assert!(matches!(fenced, Err(Error::Fenced)), "{fenced:?}");
    assert_eq!(loaded(store, &terms.key).revision, Revision(1));
}

/// Everybody else waits for what it has locked.
pub(crate) fn a_transaction_that_freezes_with_its_process_is_ended(store: &TestStore) {
    if store.engine == Engine::Sqlite {
        return;
    }
    let terms = begun(store);
    let short = store.store.join(Duration::from_secs(1)).unwrap();
    let mut frozen = store.store.writer(&short).unwrap();
    let goes_on = || {
        // Its own row in the feed waits for the place that the frozen one has taken.
        let log = log(&log_row(terms.key.caller));
        assert!(matches!(store.write(log), Written::Logged(_)));
    };
    let ended = frozen.commit_watched(&[advance_write(&terms, 2, &completed("x"))], Some(&goes_on));
    assert!(matches!(ended, Err(Error::Unavailable(_))), "{ended:?}");
    assert_eq!(loaded(store, &terms.key).revision, Revision(1));
}

pub(crate) fn nodes_without_anything_live_are_forgotten(store: &TestStore) {
    let [busy, idle] = [dead(store), dead(store)];
    let terms = left_by(store, busy);
    store.write(Write::ForgetNodes);
    assert_eq!(holder(store, idle), idle, "it is not ours");
    store.write(Write::TakeOver(Gone::Expired));
    let known = || {
        let nodes = store.read(|reader| reader.nodes());
        [busy, idle, store.lease.node()].map(|id| nodes.iter().any(|node| node.id == id))
    };
    store.write(Write::ForgetNodes);
    assert_eq!(known(), [true, false, true]);
    store.write(advance_write(&terms, 2, &completed("x")));
    store.write(Write::ForgetNodes);
    assert_eq!(known(), [false, false, true]);
}

/// What is heard next, but for the word that anything may have been missed.
fn next(heard: &Receiver<Heard>) -> Heard {
    loop {
        let heard = heard.recv_timeout(Duration::from_secs(10)).unwrap();
        if !heard.all {
            return heard;
        }
    }
}

pub(crate) fn what_others_commit_is_heard_of(store: &TestStore) {
    let (tell, heard) = channel();
    if store.engine == Engine::Sqlite {
        let listening = store.store.listen(&store.lease, drop);
        return assert!(listening.unwrap().is_none());
    }
    let other = store.store.join(LEASE).unwrap();
    let _listening = store
        .store
        .listen(&other, move |heard| drop(tell.send(heard)))
        .unwrap();
    assert!(
        heard.recv_timeout(Duration::from_secs(10)).unwrap().all,
        "nobody knows what came before"
    );
    let terms = begun(store);
    let feeds = |heard: Heard| (heard.workspaces, heard.moved);
    assert_eq!(feeds(next(&heard)), (vec![terms.key.caller], vec![]));
    let life = completed("x");
    store.write(Write::Visit(Arc::new(advance(&terms, 2, &life))));
    assert_eq!(
        feeds(next(&heard)),
        (vec![terms.key.caller], vec![terms.key.clone()])
    );
    // What one says itself it does not hear, and what says nothing is not said.
    store.commit(&[]);
    let (tell, own) = channel();
    let _own = store
        .store
        .listen(&store.lease, move |heard| drop(tell.send(heard)))
        .unwrap();
    assert!(own.recv_timeout(Duration::from_secs(10)).unwrap().all);
    store.write(Write::RemoveWorkspaces {
        ids: vec![terms.key.caller],
        purge: false,
        events: vec![],
        at: tick(),
    });
    assert_eq!(next(&heard).targets, [terms.key.caller]);
    assert!(own.try_recv().is_err());
}

pub(crate) fn a_place_that_another_node_took_breaks_the_row(store: &TestStore) {
    let own = created(store, None);
    let mut writer = store.writer();
    let mut row = || writer.commit(&[log(&log_row(own))]).unwrap();
    let place = |commit: &Commit| match commit.written[..] {
        [Written::Logged(place)] => place,
        _ => panic!("{commit:?}"),
    };
    let span = |commit: &Commit| commit.span.unwrap();
    let (first, second) = (row(), row());
    assert_eq!(span(&first).before.0 + 1, place(&first).0);
    assert_eq!(span(&second).before, span(&first).last);
    let other = store.commit(&[log(&log_row(own))]);
    let third = row();
    assert_eq!(span(&third).before, place(&other));
    let whole = Span::joined(second.span, third.span).unwrap();
    assert_eq!(
        (whole.before, whole.last),
        (span(&second).before, span(&third).last)
    );
    assert_eq!(whole.unbroken_since, place(&other));
    let next = Span::joined(third.span, row().span).unwrap();
    assert_eq!(next.unbroken_since, place(&other));
}
