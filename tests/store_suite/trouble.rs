//! Refusals, lost connections, concurrent starts.

use baton::domain::*;
use baton::store::*;
use diesel::connection::SimpleConnection as _;

use crate::support::*;

pub(crate) fn migrations_run_once(store: &TestStore) {
    let before = store.number("SELECT count(*) FROM __diesel_schema_migrations");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Store::open(&options(&store.url)).unwrap());
        }
    });
    assert_eq!(
        store.number("SELECT count(*) FROM __diesel_schema_migrations"),
        before
    );
    store.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    let earlier = Store::open(&options(&store.url)).map(drop).unwrap_err();
    assert!(earlier.to_string().contains("a later version"), "{earlier}");
    store.sql("DELETE FROM __diesel_schema_migrations WHERE version = '9999'");
    // Starts that meet on a database with nothing in it.
    let Some(empty) = TestStore::open(store.engine) else {
        return;
    };
    empty.sql(match store.engine {
        Engine::Postgres => "DROP SCHEMA public CASCADE; CREATE SCHEMA public;",
        Engine::Sqlite => {
            "DROP TABLE nodes; DROP TABLE feed_position; DROP TABLE inbox_delivery_state; DROP TABLE delegations; \
             DROP TABLE delegations_live; DROP TABLE delegations_ended; DROP TABLE delegations_owed; \
             DROP TABLE push_receivers; DROP TABLE structure_events; DROP TABLE activity_logs; DROP TABLE workspace_auth_tokens; \
             DROP TABLE workspaces; DROP TABLE __diesel_schema_migrations;"
        }
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| Store::open(&options(&empty.url)).unwrap());
        }
    });
    assert_eq!(empty.number("SELECT count(*) FROM feed_position"), 1);
    assert_eq!(
        empty.number("SELECT count(*) FROM __diesel_schema_migrations"),
        before
    );
    #[cfg(unix)]
    if let Some(path) = store.url.strip_prefix("sqlite://") {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

pub(crate) fn a_refused_reply_is_owed(store: &TestStore) {
    let (owing, fine) = (begun(store), begun(store));
    store.refuse_rows(&format!(
        "NEW.activity_type = 'a2a_receive' AND NEW.delegation_id = '{}'",
        owing.key.id
    ));
    let commit = store.commit(&[
        advance_write(&owing, 2, &completed("the answer")),
        advance_write(&fine, 2, &completed("x")),
    ]);
    assert!(
        matches!(commit.written[..], [Written::Advanced, Written::Advanced]),
        "{commit:?}"
    );
    assert_eq!((commit.replies_owed, commit.published.len()), (1, 5));
    assert_eq!(loaded(store, &owing.key).life.status(), Status::Completed);
    let owed = store.read(|reader| reader.owed_replies(None, 10)).rows;
    assert_eq!(owed.len(), 1);
    assert_eq!(
        (&owed[0].terms, &owed[0].ending),
        (
            &owing,
            &Ending::Completed {
                text: "the answer".into()
            }
        )
    );
    let reply = Box::new(reply_row(&owing, &owed[0].ending, tick()));
    let deliver = Write::DeliverOwed {
        key: owing.key.clone(),
        reply,
    };
    let still = store.commit(std::slice::from_ref(&deliver));
    assert!(matches!(still.written[..], [Written::Failed(_)]) && still.published.is_empty());
    let owed_now = || {
        store
            .read(|reader| reader.owed_replies(None, 10))
            .rows
            .len()
    };
    assert_eq!(owed_now(), 1);
    store.allow_rows();
    let delivered = store.commit(&[deliver.clone(), deliver]);
    assert_eq!(delivered.published.len(), 1, "exactly one");
    assert!(matches!(
        delivered.written[..],
        [Written::Done, Written::Done]
    ));
    assert_eq!(owed_now(), 0);
    let audited = store
        .read(|reader| reader.audit(None, 10, AuditLimits::default()))
        .rows;
    assert!(
        audited
            .iter()
            .all(|one| one.replies == 1 && audit(one).is_empty()),
        "{audited:?}"
    );
}

pub(crate) fn a_poisoned_write_stands_alone(store: &TestStore) {
    let terms = begun(store);
    let own = terms.key.caller;
    let twice = workspace(None);
    let create = |workspace: &Workspace| Write::CreateWorkspace {
        workspace: Box::new(workspace.clone()),
        token: None,
        events: vec![],
    };
    let clash = Workspace {
        created_at: tick(),
        ..twice.clone()
    };
    let writes = [
        advance_write(&terms, 2, &completed("x")),
        create(&twice),
        create(&clash),
        log(&log_row(own)),
    ];
    let commit = store.commit(&writes);
    assert!(
        matches!(commit.written[..2], [Written::Advanced, Written::Done]),
        "{commit:?}"
    );
    assert!(
        matches!(commit.written[2], Written::Failed(_)),
        "{commit:?}"
    );
    assert!(
        matches!(commit.written[3], Written::Logged(_)),
        "{commit:?}"
    );
    assert_eq!(loaded(store, &terms.key).revision, Revision(2));
}

pub(crate) fn a_raising_trigger_fails_one_write(store: &TestStore) {
    let (bad, good) = (begun(store), begun(store));
    store.refuse_rows(&format!(
        "NEW.activity_type = 'delegation' AND NEW.delegation_id = '{}'",
        bad.key.id
    ));
    let batch = [
        advance_write(&bad, 2, &completed("x")),
        advance_write(&good, 2, &completed("y")),
    ];
    let commit = store.commit(&batch);
    let [Written::Failed(why), Written::Advanced] = &commit.written[..] else {
        panic!("{commit:?}")
    };
    assert!(why.contains("a trigger said no"), "{why}");
    assert_eq!(loaded(store, &bad.key).revision, Revision(1));
    assert_eq!(loaded(store, &good.key).revision, Revision(2));
    store.allow_rows();
    assert!(matches!(
        store.commit(&batch).written[..],
        [Written::Advanced, Written::Advanced]
    ));
}

pub(crate) fn a_lost_connection_is_unavailable(store: &TestStore) {
    if store.engine == Engine::Sqlite {
        return;
    }
    let terms = begun(store);
    let mut writer = store.writer();
    let step = [
        advance_write(&terms, 2, &completed("x")),
        log(&log_row(terms.key.caller)),
    ];
    store.read(|reader| reader.last_position().map(|_| ()));
    store.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    let lost = writer.commit(&step);
    assert!(matches!(lost, Err(Error::Unavailable(_))), "{lost:?}");
    assert!(
        matches!(writer.commit(&step), Err(Error::Unavailable(_))),
        "it stays unusable"
    );
    // The pool gives out no broken connection.
    assert_eq!(loaded(store, &terms.key).revision, Revision(1));
    let mut writer = store.writer();
    assert!(matches!(
        writer.commit(&step).unwrap().written[..],
        [Written::Advanced, Written::Logged(_)]
    ));
    let replayed = writer.commit(&step).unwrap();
    assert!(
        matches!(
            replayed.written[..],
            [Written::Advanced, Written::Logged(_)]
        ),
        "{replayed:?}"
    );
    assert!(replayed.published.is_empty());
    assert_eq!(activity(store, everything(terms.key.caller)).len(), 4);
}

pub(crate) fn an_unreadable_delegation_stops_no_others(store: &TestStore) {
    let (odd, fine) = (begun(store), begun(store));
    let (odd_ending, fine_ending) = (begun(store), begun(store));
    store.refuse_rows("NEW.activity_type = 'a2a_receive'");
    store.commit(&[
        advance_write(&odd_ending, 2, &failed("x")),
        advance_write(&fine_ending, 2, &failed("x")),
    ]);
    store.sql(&format!(
        "UPDATE delegations SET status = 'dispatched' WHERE delegation_id = '{}'; \
         UPDATE delegations SET error_class = 'of_tomorrow' WHERE delegation_id = '{}'",
        odd.key.id, odd_ending.key.id
    ));
    let own = store.lease.node();
    let live = store.read(move |reader| reader.live(own, None, 10));
    let owed = store.read(|reader| reader.owed_replies(None, 10));
    assert_eq!((live.rows.len(), owed.rows.len()), (1, 1));
    assert_eq!(
        (&live.rows[0].terms, &owed.rows[0].terms),
        (&fine, &fine_ending)
    );
    // A page of what cannot be read is not the end.
    let page = store.read(move |reader| reader.live(own, None, 1));
    assert_eq!(page.rows.len(), 0);
    assert_eq!(page.last, number(store, &odd.key));
    let rest = store.read(move |reader| reader.live(own, page.last, 10));
    assert_eq!(rest.rows.len(), 1);
}

pub(crate) fn a_panic_in_a_read_is_an_error(store: &TestStore) {
    for _ in 0..4 {
        let failed = store.try_read(|_| -> Result<(), Error> { panic!("in a read") });
        assert!(matches!(failed, Err(Error::Refused(_))), "{failed:?}");
    }
    assert_eq!(store.read(|reader| reader.last_position()), Position(0));
}

pub(crate) fn all_connections_taken_is_unavailable(store: &TestStore) {
    let busy = StoreOptions {
        read_budget: std::time::Duration::from_millis(100),
        ..options(&store.url)
    };
    let small = Store::open(&StoreOptions {
        read_connections: 1,
        ..busy
    })
    .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (ready, started) = std::sync::mpsc::channel::<()>();
    let slow = runtime.spawn({
        let small = small.clone();
        async move {
            small
                .read(move |_| {
                    ready.send(()).unwrap();
                    held.recv().unwrap();
                    Ok(())
                })
                .await
        }
    });
    started.recv().unwrap();
    let late = runtime.block_on(small.ping());
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    release.send(()).unwrap();
    let slow = runtime.block_on(slow).unwrap();
    assert!(matches!(slow, Err(Error::Unavailable(_))), "{slow:?}");
    while runtime.block_on(small.ping()).is_err() {}
}

pub(crate) fn a_locked_or_read_only_database_is_unavailable(store: &TestStore) {
    let own = created(store, None);
    let mut writer = store.writer();
    match store.engine {
        Engine::Sqlite => {
            let mut other = store.sqlite();
            other.batch_execute("BEGIN IMMEDIATE").unwrap();
            let locked = writer.commit(&[log(&log_row(own))]);
            assert!(matches!(locked, Err(Error::Unavailable(_))), "{locked:?}");
            let asked = writer.commit(&[]);
            assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
            other.batch_execute("ROLLBACK").unwrap();
        }
        Engine::Postgres => {
            store.sql(
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'stop' USING ERRCODE = '25006'; END $$; \
                 CREATE TRIGGER stop BEFORE UPDATE ON nodes EXECUTE FUNCTION stop()",
            );
            let read_only = writer.commit(&[log(&log_row(own))]);
            assert!(
                matches!(read_only, Err(Error::Unavailable(_))),
                "{read_only:?}"
            );
            let asked = writer.commit(&[]);
            assert!(matches!(asked, Err(Error::Unavailable(_))), "{asked:?}");
            store.sql("DROP TRIGGER stop ON nodes");
        }
    }
    assert!(matches!(
        writer.commit(&[log(&log_row(own))]).unwrap().written[..],
        [Written::Logged(_)]
    ));
}

/// The same JSON with its members in one order: PostgreSQL once kept them in its own.
fn in_order(json: Option<Json>) -> Option<Json> {
    let value: serde_json::Value = serde_json::from_str(&json?.0).unwrap();
    Some(Json::from(&value))
}

/// The feed that a row was logged in, and all events, but for ids: those that follow from a place may change.
fn told(store: &TestStore, logged: &FeedRow) -> String {
    let mut rows = activity(store, everything(logged.workspace));
    assert!(rows.iter().any(|row| Some(row.id) == logged.id));
    for row in &mut rows {
        row.id = logged.id.unwrap();
        for body in [&mut row.request_body, &mut row.response_body] {
            *body = in_order(body.take());
        }
    }
    let events = store.read(|reader| reader.recent_events(None, 100));
    let events: Vec<_> = events
        .into_iter()
        .map(|event| {
            let payload = in_order(event.payload);
            (event.position, event.name, payload, event.created_at)
        })
        .collect();
    format!("{rows:?} {events:?}")
}

/// The change of the tables that moves most: back to what was before it, and forth again.
pub(crate) fn a_migration_keeps_what_is_there(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let keys = [1, 2, 3].map(|_| keyed(caller, target, "k", 1));
    for (one, fails) in keys.iter().zip([true, true, false]) {
        store.commit(&[accept(one)]);
        if fails {
            store.commit(&[advance_write(&one.delegation.terms, 2, &failed("no"))]);
        }
    }
    let owing = begun(store);
    store.refuse_rows("NEW.activity_type = 'a2a_receive'");
    store.commit(&[advance_write(&owing, 2, &completed("the answer"))]);
    store.allow_rows();
    let seen = || {
        let key = keys[0].delegation.terms.key.clone();
        store.read(move |reader| {
            let audited = reader.audit(None, 100, AuditLimits::default())?;
            assert_eq!(audited.rows.iter().flat_map(audit).collect::<Vec<_>>(), []);
            let list = |statuses: &[Status]| DelegationFilter {
                party: Some(caller),
                statuses: statuses.to_vec(),
                before: None,
                older_than: None,
                limit: 50,
            };
            let view = reader.view(&key)?.unwrap();
            Ok((
                reader.delegations(&list(&[Status::Failed]))?.len(),
                reader.delegations(&list(&[Status::Pending]))?.len(),
                reader.owed_replies(None, 10)?.rows.len(),
                view.history
                    .iter()
                    .map(|entry| entry.status.clone())
                    .collect::<Vec<_>>(),
            ))
        })
    };
    let logged = log_row(caller);
    store.commit(&[log(&logged), Write::Record(Box::new(event(caller)))]);
    let told = || told(store, &logged);
    let told_before = told();
    let before = seen();
    assert_eq!((before.0, before.1, before.2), (2, 1, 1));
    assert_eq!(before.3.len(), 2);
    let mut earlier = store.writer();
    let engine = match store.engine {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let (last, before_it) = ("0006_ids_of_places", "0005_changed_in_place");
    for (step, file) in [
        (last, "down.sql"),
        (before_it, "down.sql"),
        (before_it, "up.sql"),
        (last, "up.sql"),
    ] {
        let path = format!("migrations/{engine}/{step}/{file}");
        store.sql(&std::fs::read_to_string(path).unwrap());
    }
    assert_eq!(seen(), before);
    assert_eq!(told(), told_before);
    // Who ran before it writes no more.
    let late = earlier.commit(&[log(&log_row(caller))]);
    assert!(matches!(late, Err(Error::Fenced)), "{late:?}");
}
