//! Accepting, moving and ending delegations.

use std::sync::Arc;

use baton::domain::*;
use baton::store::*;

use crate::support::*;

fn acceptance_of(written: &Written) -> &Acceptance {
    match written {
        Written::Accepted(acceptance) => acceptance,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn acceptance_is_stored_whole(store: &TestStore) {
    let caller = created(store, None);
    let begin = acceptance(caller, created(store, Some(caller)));
    let commit = store.commit(&[accept(&begin)]);
    assert_eq!(commit.published.len(), 2, "{:?}", commit.published);
    let terms = begin.delegation.terms.clone();
    let read = loaded(store, &terms.key);
    assert_eq!(read.terms, terms);
    assert_eq!(read.life, Life::new(State::Pending));
    assert_eq!(
        (read.revision, read.incarnation),
        (Revision(1), Incarnation(0))
    );
    let key = terms.key.clone();
    assert_eq!(
        store.read(move |reader| reader.task(&key)).as_deref(),
        Some("the task")
    );
    let again = store.commit(&[accept(&begin)]);
    assert!(matches!(
        acceptance_of(&again.written[0]),
        Acceptance::Created { retry_of: None }
    ));
    assert!(
        again.published.is_empty(),
        "a repeated acceptance shows nothing"
    );
    let mut other = acceptance(caller, created(store, None));
    other.delegation.terms.key = terms.key;
    assert!(matches!(
        acceptance_of(&store.write(accept(&other))),
        Acceptance::IdTaken
    ));
}

pub(crate) fn a_key_is_used_once(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let first = keyed(caller, target, "k", 1);
    store.commit(&[accept(&first)]);
    let replay = store.write(accept(&keyed(caller, target, "k", 1)));
    let Acceptance::Replayed { id, status } = acceptance_of(&replay) else {
        panic!("{replay:?}")
    };
    assert_eq!(
        (id, *status),
        (&first.delegation.terms.key.id, Status::Pending)
    );
    let mismatch = store.write(accept(&keyed(caller, target, "k", 2)));
    assert!(matches!(acceptance_of(&mismatch), Acceptance::KeyMismatch));
    let elsewhere = store.write(accept(&keyed(target, caller, "k", 2)));
    assert!(matches!(
        acceptance_of(&elsewhere),
        Acceptance::Created { .. }
    ));
    let long = "k".repeat(100_000);
    for _ in 0..2 {
        store.commit(&[accept(&keyed(caller, target, &long, 3))]);
    }
    assert_eq!(store.number("SELECT count(*) FROM delegations"), 3);
}

pub(crate) fn a_failed_key_is_given_back(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let first = keyed(caller, target, "k", 1);
    store.commit(&[accept(&first)]);
    store.commit(&[advance_write(&first.delegation.terms, 2, &failed("no"))]);
    let mismatch = store.write(accept(&keyed(caller, target, "k", 2)));
    assert!(matches!(acceptance_of(&mismatch), Acceptance::KeyMismatch));
    let second = keyed(caller, target, "k", 1);
    for _ in 0..2 {
        let retried = store.write(accept(&second));
        let Acceptance::Created { retry_of } = acceptance_of(&retried) else {
            panic!("{retried:?}")
        };
        assert_eq!(retry_of.as_ref(), Some(&first.delegation.terms.key.id));
    }
    let replay = store.write(accept(&keyed(caller, target, "k", 1)));
    assert!(matches!(
        acceptance_of(&replay),
        Acceptance::Replayed { .. }
    ));
}

pub(crate) fn one_key_twice_in_a_batch(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let batch: Vec<Write> = [1, 1, 2]
        .iter()
        .map(|print| accept(&keyed(caller, target, "k", *print)))
        .collect();
    let commit = store.commit(&batch);
    let answers: Vec<&Acceptance> = commit.written.iter().map(acceptance_of).collect();
    assert!(
        matches!(
            answers[..],
            [
                Acceptance::Created { .. },
                Acceptance::Replayed { .. },
                Acceptance::KeyMismatch
            ]
        ),
        "{answers:?}"
    );
}

pub(crate) fn one_key_from_many_writers(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let threads = if store.engine == Engine::Postgres {
        60
    } else {
        8
    };
    let answers: Vec<Written> = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..threads)
            .map(|_| {
                let begin = accept(&keyed(caller, target, "k", 1));
                scope.spawn(move || store.write(begin))
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let made = answers
        .iter()
        .filter(|written| matches!(acceptance_of(written), Acceptance::Created { .. }))
        .count();
    assert_eq!(made, 1, "{answers:?}");
    assert_eq!(store.number("SELECT count(*) FROM delegations"), 1);
}

pub(crate) fn a_repeated_commit_changes_nothing(store: &TestStore) {
    let terms = begun(store);
    let step = advance_write(&terms, 2, &completed("done"));
    assert_eq!(store.commit(std::slice::from_ref(&step)).published.len(), 3);
    let again = store.commit(std::slice::from_ref(&step));
    assert!(matches!(again.written[..], [Written::Advanced]));
    assert!(again.published.is_empty());
    for other in [living(1, State::Pending), completed("another answer")] {
        let stale = store.write(advance_write(&terms, 2, &other));
        assert!(
            matches!(stale, Written::Stale),
            "another change under the same numbers was never committed"
        );
    }
    let skipped = store.write(advance_write(&terms, 9, &failed("x")));
    assert!(matches!(skipped, Written::Stale));
    let mut newer = advance(&terms, 3, &completed("done"));
    newer.incarnation = Incarnation(4);
    newer.feed = Feed::default();
    assert!(matches!(
        store.write(Write::Advance(Arc::new(newer))),
        Written::Advanced
    ));
    let old = store.write(advance_write(&terms, 4, &failed("x")));
    assert!(
        matches!(old, Written::Stale),
        "an older incarnation must not move it"
    );
    let read = loaded(store, &terms.key);
    assert_eq!(
        (read.revision, read.incarnation),
        (Revision(3), Incarnation(4))
    );
    assert_eq!(activity(store, everything(terms.key.caller)).len(), 3);
}

fn states() -> Vec<State> {
    let task = Some(RemoteTaskId("t".into()));
    let trouble = Some(Trouble {
        failures: 3,
        since: tick(),
    });
    let phases = [
        Phase::Dispatched { trouble: None },
        Phase::Dispatched { trouble },
        Phase::Received { task: None },
        Phase::Received { task: task.clone() },
        Phase::InProgress { task: None },
        Phase::InProgress { task: task.clone() },
    ];
    let mut states = vec![State::Pending];
    for phase in phases {
        let working = Working::new(phase, tick());
        let told = Working {
            progress: Some(Progress {
                message: Some("half".into()),
                percent: Some(50),
            }),
            input: Some(Input {
                question: "which?".into(),
                answer: Box::new(Said {
                    text: "that".into(),
                    message: Some(Json(r#"{"messageId":"m"}"#.into())),
                }),
            }),
            ..working.clone()
        };
        states.extend([working.clone(), told].map(State::Working));
        states.push(State::Stuck(working));
    }
    for waiting_for in WaitingFor::ALL {
        states.push(State::Queued(Wait {
            waiting_for: *waiting_for,
            until: tick(),
            trouble,
        }));
    }
    for task in [None, task] {
        states.push(State::InputRequired(Box::new(Question {
            task,
            text: "which?".into(),
        })));
    }
    states
}

fn endings() -> Vec<Ended> {
    let mut endings = vec![
        Ending::Completed { text: "".into() },
        Ending::Completed {
            text: "text 🦀".into(),
        },
        Ending::Cancelled { reason: "".into() },
        Ending::Cancelled {
            reason: "why".into(),
        },
    ];
    let failures = ErrorClass::ALL.iter();
    endings.extend(failures.map(|class| Ending::Failed {
        class: *class,
        detail: "d".into(),
    }));
    let late = |with: bool| {
        with.then(|| LateResult {
            text: "late".into(),
            at: tick(),
        })
    };
    endings
        .into_iter()
        .flat_map(|ending| [false, true].map(|with| (ending.clone(), with)))
        .map(|(ending, with)| Ended {
            ending,
            at: tick(),
            late: late(with),
        })
        .collect()
}

pub(crate) fn every_state_reads_back(store: &TestStore) {
    let caller = created(store, None);
    let (mut writer, mut queued) = (store.writer(), None);
    let ends = endings()
        .into_iter()
        .map(|ended| State::Ended(Box::new(ended)));
    for state in states().into_iter().chain(ends) {
        let begin = acceptance(caller, caller);
        let life = living(7, state);
        let terms = &begin.delegation.terms;
        let task = Some(RemoteTaskId("before".into()));
        let busy = State::Working(Working::new(Phase::Received { task }, tick()));
        let first = advance_write(terms, 2, &living(6, busy));
        writer
            .commit(&[accept(&begin), first, advance_write(terms, 3, &life)])
            .unwrap();
        let read = loaded(store, &terms.key);
        assert_eq!((&read.life, read.revision), (&life, Revision(3)));
        if life.status() == Status::Queued {
            queued = Some(terms.key.clone());
        }
    }
    let key = acceptance(caller, caller).delegation.terms.key;
    assert!(store.read(move |reader| reader.load(&key)).is_none());
    store.sql("UPDATE delegations SET waiting_for = 'nonsense' WHERE status = 'queued'");
    let queued = queued.unwrap();
    let broken = store.try_read(move |reader| reader.load(&queued));
    assert!(
        matches!(
            broken,
            Err(Error::Unreadable {
                column: "waiting_for",
                ..
            })
        ),
        "{broken:?}"
    );
}

pub(crate) fn history_is_kept_and_bounded(store: &TestStore) {
    let terms = begun(store);
    let mut writes: Vec<Write> = (2..=204)
        .map(|revision| {
            let wait = Wait {
                trouble: None,
                waiting_for: WaitingFor::Busy,
                until: tick(),
            };
            advance_write(&terms, revision, &living(1, State::Queued(wait)))
        })
        .collect();
    let mut ending = advance(&terms, 205, &failed("broke 🦀"));
    ending.raw_reply = Some(bytes::Bytes::from_static(b"raw\0\xff"));
    writes.push(Write::Advance(Arc::new(ending)));
    store.commit(&writes);
    let key = terms.key.clone();
    let view = store.read(move |reader| reader.view(&key)).unwrap();
    let words: Vec<&str> = view.history.iter().map(|entry| &*entry.status).collect();
    assert_eq!(
        (words.len(), words[0], words[1]),
        (201, "pending", "queued")
    );
    assert_eq!(view.history[1].detail.as_deref(), Some("busy"));
    assert_eq!(view.history[200].detail.as_deref(), Some("broke 🦀"));
    assert_eq!(view.raw_reply.as_deref(), Some(&b"raw\0\xff"[..]));
    assert_eq!(
        (view.task_preview.as_str(), view.retry_of),
        ("the task", None)
    );
}

pub(crate) fn an_ending_is_written_once(store: &TestStore) {
    let terms = begun(store);
    let commit = store.commit(&[advance_write(&terms, 2, &completed("done"))]);
    let kinds: Vec<&str> = commit
        .published
        .iter()
        .map(|one| match one {
            Published::Row { activity_type, .. } => activity_type.as_str(),
            Published::Event { event, .. } => event.name.as_str(),
        })
        .collect();
    assert_eq!(kinds, ["delegation", "a2a_receive", "DELEGATION_COMPLETE"]);
    for activity_type in ["delegation", "a2a_receive"] {
        let copy = format!(
            "INSERT INTO activity_logs (id, seq, workspace_id, activity_type, method, status, delegation_id, \
             delegation_number, created_at) \
             SELECT '{}', -seq, workspace_id, activity_type, method, status, delegation_id, delegation_number, created_at \
             FROM activity_logs WHERE method = 'delegate_result' AND activity_type = '{activity_type}'",
            ActivityId::mint()
        );
        let copy = if store.engine == Engine::Postgres {
            copy.replacen("SELECT '", "SELECT uuid '", 1)
        } else {
            copy
        };
        assert!(
            store
                .try_sql(&copy)
                .unwrap_err()
                .to_lowercase()
                .contains("unique"),
            "{copy}"
        );
    }
    let audited = store
        .read(|reader| reader.audit(None, 10, AuditLimits::default()))
        .rows;
    assert_eq!(audited.iter().flat_map(audit).collect::<Vec<_>>(), []);
    assert_eq!((audited[0].result_rows, audited[0].replies), (1, 1));
    let counts = store.read(|reader| reader.counts());
    assert_eq!(counts.len(), 10);
    assert!(counts.contains(&(Status::Completed, 1)) && counts.contains(&(Status::Failed, 0)));
}
