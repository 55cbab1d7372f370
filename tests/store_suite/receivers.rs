//! Who is told by HTTP.

use std::time::Duration;

use baton::domain::*;
use baton::store::*;

use crate::support::*;

fn receiver(workspace: WorkspaceId, delegation: Option<&str>, config: &str) -> Receiver {
    Receiver {
        id: ReceiverId::mint(),
        workspace,
        delegation: delegation.map(DelegationId::from_text),
        config: config.into(),
        url: "http://receiver/?a=b".into(),
        scheme: Some("Bearer".into()),
        old_form: true,
        sealed: Some([0, 1, 255].into()),
        course: Course::from(Position(7)),
        node: NodeId::mint(),
        created_at: tick(),
    }
}

fn change(change: ReceiverChange) -> Write {
    Write::Receiver(Box::new(change))
}

fn put(receiver: &Receiver) -> Write {
    let receiver = receiver.clone();
    change(ReceiverChange::Put { receiver, limit: 2 })
}

fn note(receiver: &Receiver, course: &Course) -> Write {
    let (id, course) = (receiver.id, course.clone());
    change(ReceiverChange::Note { id, course })
}

fn assert_put(written: &Written, from: i64, so: ReceiverState, for_whom: Option<&Receiver>) {
    let expected = (Position(from), so, for_whom.map(|one| one.id));
    match written {
        Written::Put {
            position,
            state,
            before,
        } => assert_eq!((*position, *state, *before), expected),
        other => panic!("{other:?}"),
    }
}

fn of(store: &TestStore, workspace: WorkspaceId, delegation: Option<&str>) -> Vec<Receiver> {
    let delegation = delegation.map(DelegationId::from_text);
    store.read(move |reader| reader.receivers_of(workspace, delegation.as_ref()))
}

fn told_by(store: &TestStore, node: NodeId) -> Vec<ReceiverId> {
    let all = store.read(move |reader| reader.receivers_told_by(node, None, 10));
    all.into_iter().map(|receiver| receiver.id).collect()
}

pub(crate) fn a_receiver_is_put_found_and_dropped(store: &TestStore) {
    let own = created(store, None);
    let (hook, one) = (receiver(own, None, "a"), receiver(own, Some("d"), "a"));
    for wanted in [&hook, &one] {
        for _again in 0..2 {
            assert_put(&store.write(put(wanted)), 7, ReceiverState::Live, None);
        }
    }
    let stored = Receiver {
        node: store.lease.node(),
        ..hook.clone()
    };
    assert_eq!(of(store, own, None), std::slice::from_ref(&stored));
    assert_eq!(of(store, own, Some("d"))[0].id, one.id);
    assert_eq!(of(store, own, Some("other")), []);
    let id = hook.id;
    assert_eq!(store.read(move |reader| reader.receiver(id)), Some(stored));
    assert_eq!(told_by(store, store.lease.node()), [hook.id, one.id]);
    let drop = |config: &str| {
        change(ReceiverChange::Drop {
            workspace: own,
            delegation: None,
            config: config.into(),
        })
    };
    assert!(matches!(store.write(drop("b")), Written::Missing));
    assert!(matches!(store.write(drop("a")), Written::Done));
    assert!(matches!(store.write(drop("a")), Written::Missing));
    assert_eq!(told_by(store, store.lease.node()), [one.id]);
    let foreign = receiver(WorkspaceId::mint(), None, "a");
    assert!(matches!(store.write(put(&foreign)), Written::Missing));
    store.write(Write::RemoveWorkspaces {
        ids: vec![own],
        purge: false,
        events: vec![],
        at: tick(),
    });
    assert_eq!(told_by(store, store.lease.node()), []);
}

pub(crate) fn a_name_is_used_once_and_there_are_only_so_many(store: &TestStore) {
    let own = created(store, None);
    let first = receiver(own, Some("d"), "a");
    store.write(put(&first));
    let further = Course::from(Position(9));
    assert!(matches!(store.write(note(&first, &further)), Written::Done));
    let again = receiver(own, Some("d"), "a");
    let written = store.write(put(&again));
    assert_put(&written, 9, ReceiverState::Live, Some(&first));
    let all = of(store, own, Some("d"));
    let found: Vec<_> = all
        .iter()
        .map(|one| (one.id, one.course.position))
        .collect();
    assert_eq!(found, [(again.id, Position(9))], "told on from there");
    let late = store.write(note(&first, &further));
    assert!(matches!(late, Written::Missing), "it made room");
    let second = receiver(own, Some("d"), "b");
    store.write(put(&second));
    let more = store.write(put(&receiver(own, Some("d"), "c")));
    assert!(matches!(more, Written::TooMany), "{more:?}");
    let same = store.write(put(&receiver(own, Some("d"), "b")));
    assert_put(&same, 7, ReceiverState::Live, Some(&second));
    let other = store.write(put(&receiver(own, Some("e"), "c")));
    assert_put(&other, 7, ReceiverState::Live, None);
}

pub(crate) fn whoever_makes_room_leaves_what_it_was_not_told(store: &TestStore) {
    let own = created(store, None);
    for (state, left) in [
        (ReceiverState::Live, ReceiverState::Live),
        (ReceiverState::Dead, ReceiverState::Live),
        (ReceiverState::Done, ReceiverState::Done),
    ] {
        let before = receiver(own, Some(state.as_str()), "a");
        store.write(put(&before));
        let course = Course {
            state,
            failures: 3,
            ..Course::from(Position(9))
        };
        store.write(note(&before, &course));
        let mut again = receiver(own, Some(state.as_str()), "a");
        // What it is told of has ended meanwhile.
        again.course = Course {
            state: ReceiverState::Done,
            ..Course::from(Position(20))
        };
        let written = store.write(put(&again));
        assert_put(&written, 9, left, Some(&before));
        let id = again.id;
        let stored = store.read(move |reader| reader.receiver(id)).unwrap();
        let expected = Course {
            state: left,
            ..Course::from(Position(9))
        };
        assert_eq!(stored.course, expected);
    }
}

pub(crate) fn how_far_a_receiver_was_told_is_noted_by_its_node_alone(store: &TestStore) {
    let own = created(store, None);
    let told = receiver(own, None, "a");
    store.write(put(&told));
    let course = Course {
        state: ReceiverState::Live,
        position: Position(8),
        failures: 3,
        failing_since: Some(tick()),
        next_attempt_at: Some(tick()),
        last_error: Some("a\0b".into()),
    };
    assert!(matches!(store.write(note(&told, &course)), Written::Done));
    let stored = Course {
        last_error: Some("a\u{fffd}b".into()),
        ..course.clone()
    };
    assert_eq!(of(store, own, None)[0].course, stored);
    store.write(note(&told, &Course::from(Position(9))));
    assert_eq!(of(store, own, None)[0].course, Course::from(Position(9)));
    let other = NodeId::mint();
    store.sql(&format!(
        "UPDATE push_receivers SET lease_owner = '{other}'"
    ));
    let late = store.write(note(&told, &course));
    assert!(matches!(late, Written::Missing));
    assert_eq!(of(store, own, None)[0].course.position, Position(9));
}

pub(crate) fn a_dead_receiver_is_kept_replayed_and_forgotten(store: &TestStore) {
    let own = created(store, None);
    let [dead, done] = ["a", "b"].map(|config| receiver(own, None, config));
    let replay = || change(ReceiverChange::Replay(dead.id));
    for (receiver, state) in [(&dead, ReceiverState::Dead), (&done, ReceiverState::Done)] {
        store.write(put(receiver));
        if state == ReceiverState::Dead {
            assert!(matches!(store.write(replay()), Written::Missing));
        }
        let course = Course {
            state,
            failures: 2,
            failing_since: Some(receiver.created_at),
            last_error: Some("no".into()),
            ..Course::from(Position(8))
        };
        store.write(note(receiver, &course));
    }
    assert_eq!(told_by(store, store.lease.node()), []);
    let listed = |state| {
        let all = store.read(move |reader| reader.receivers(state, 10));
        all.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(Some(ReceiverState::Dead)), [dead.id]);
    assert_eq!(listed(None), [done.id, dead.id]);
    assert!(matches!(store.write(replay()), Written::Done));
    let course = of(store, own, None).remove(0).course;
    let expected = Course {
        last_error: Some("no".into()),
        ..Course::from(Position(8))
    };
    assert_eq!(course, expected, "from where it stopped");
    let prune = |age: Duration| {
        let before = tick().plus(Duration::from_mins(1)).minus(age);
        store.write(change(ReceiverChange::Prune {
            done_before: before,
            dead_before: before,
            limit: 10,
        }))
    };
    let young = prune(Duration::from_hours(1));
    assert!(matches!(young, Written::Pruned { deleted: 0, .. }));
    let old = prune(Duration::ZERO);
    assert!(matches!(
        old,
        Written::Pruned {
            deleted: 1,
            next: None
        }
    ));
    assert_eq!(listed(None), [dead.id], "live again");
}

pub(crate) fn a_dead_nodes_receivers_are_taken_over(store: &TestStore) {
    let own = created(store, None);
    let left = receiver(own, None, "a");
    store.write(put(&left));
    let gone = NodeId::mint();
    let long_ago = match store.engine {
        Engine::Sqlite => "1000",
        Engine::Postgres => "'2020-01-01'",
    };
    store.sql(&format!(
        "INSERT INTO nodes (id, holder, expires_at, started_at) VALUES ('{gone}', '{gone}', {long_ago}, {long_ago})"
    ));
    store.sql(&format!("UPDATE push_receivers SET lease_owner = '{gone}'"));
    assert_eq!(told_by(store, store.lease.node()), []);
    store.write(Write::TakeOver(Gone::Expired));
    assert_eq!(told_by(store, store.lease.node()), [left.id]);
}
