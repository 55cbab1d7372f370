//! How the databases carry out each read: by an index, whatever the history.

mod reads;

use std::cell::RefCell;
use std::sync::Once;

use baton::domain::*;
use baton::store::*;
use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection as _};
use diesel::sql_types::Text;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _};

use self::reads::Case;
use crate::support::*;

thread_local! {
    /// What this thread asked a database, while somebody wants to know.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    /// What this thread prepared to be said again.
    static PREPARED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[expect(clippy::needless_pass_by_value, reason = "Diesel hands it over so")]
fn hear(event: InstrumentationEvent<'_>) {
    match event {
        InstrumentationEvent::StartQuery { query, .. } => HEARD
            .with_borrow_mut(|heard| heard.iter_mut().for_each(|all| all.push(query.to_string()))),
        InstrumentationEvent::CacheQuery { sql, .. } => {
            PREPARED.with_borrow_mut(|prepared| prepared.push(sql.to_owned()));
        }
        _ => {}
    }
}

/// From now on, each new connection tells what it is asked.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    let hearing = || -> Option<Box<dyn Instrumentation>> { Some(Box::new(hear)) };
    ONCE.call_once(|| diesel::connection::set_default_instrumentation(hearing).unwrap());
}

/// The statements that `work` sends, without their values.
fn statements(work: impl FnOnce()) -> Vec<String> {
    HEARD.set(Some(Vec::new()));
    work();
    let heard = HEARD.take().unwrap_or_default();
    let text = |query: &String| {
        query
            .split(" -- binds:")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let known = ["SELECT", "UPDATE", "INSERT", "DELETE", "WITH"];
    let mut texts: Vec<String> = heard.iter().map(text).collect();
    texts.retain(|sql| known.iter().any(|word| sql.starts_with(word)));
    texts
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct PostgresLine {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

/// What the database would do; without values, so that none of them makes it look better.
fn plan(store: &TestStore, sql: &str) -> String {
    if store.engine == Engine::Sqlite {
        let query = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"));
        let lines: Vec<Line> = query.load(&mut store.sqlite()).unwrap();
        let lines: Vec<String> = lines.into_iter().map(|line| line.detail).collect();
        return lines.join("\n");
    }
    let mut connection = PgConnection::establish(&store.url).unwrap();
    let values = (1..).take_while(|number| sql.contains(&format!("${number}")));
    let nulls = vec!["NULL"; values.count()].join(", ");
    let execute = match &*nulls {
        "" => "this".to_owned(),
        nulls => format!("this({nulls})"),
    };
    let prepare = format!("SET plan_cache_mode = force_generic_plan; PREPARE this AS {sql}");
    connection.batch_execute(&prepare).unwrap();
    let query = diesel::sql_query(format!("EXPLAIN (COSTS OFF) EXECUTE {execute}"));
    let lines: Vec<PostgresLine> = query.load(&mut connection).unwrap();
    let lines: Vec<String> = lines.into_iter().map(|line| line.line).collect();
    lines.join("\n")
}

/// Tables that grow with what was ever done.
const HISTORY: [&str; 4] = [
    "activity_logs",
    "delegations",
    "delegations_ended",
    "structure_events",
];

/// Tables that are as long as what is live, or owed.
const SHORT: [&str; 2] = ["delegations_live", "delegations_owed"];

/// How SQLite reads the newest events of all.
const NEWEST_EVENTS: &str = "SCAN structure_events";

/// The first step that walks through a whole table of the history.
fn walk(plan: &str) -> Option<&str> {
    plan.lines().find(|line| {
        // With a limit, as here alone: SQLite keeps this table in the order that is asked for.
        if *line == NEWEST_EVENTS {
            return false;
        }
        HISTORY.iter().any(|table| {
            let is_long = !SHORT.iter().any(|short| line.contains(short));
            let postgres = line.contains(&format!("Seq Scan on {table}"));
            is_long && (postgres || line.starts_with(&format!("SCAN {table}")))
        })
    })
}

/// Holds each statement of a read to `index`; only what is already cut to the answer's size may be sorted.
fn held(
    store: &TestStore,
    name: &str,
    indexes: &[&str],
    sql: &[String],
    sorts: bool,
) -> Vec<String> {
    let mut complaints = Vec::new();
    assert!(!sql.is_empty(), "{name} asks nothing");
    for sql in sql {
        let plan = plan(store, sql);
        let sorted = plan.contains("TEMP B-TREE FOR ORDER BY") || plan.contains("Sort Key");
        let by_index = indexes.iter().any(|index| plan.contains(index));
        if walk(&plan).is_some() || !by_index || (sorted && !sorts) {
            complaints.push(format!("{name}:\n{sql}\n{plan}\n"));
        }
    }
    complaints
}

/// Some 20,000 delegations of 20 callers, a feed of 60,000 rows, events: half a per cent of them live.
fn fill(store: &TestStore) -> (WorkspaceId, Terms) {
    let terms = begun(store);
    let caller = terms.key.caller;
    for _ in 0..20 {
        let (caller, target) = (created(store, None), created(store, None));
        store.commit(&[accept(&acceptance(caller, target))]);
    }
    let (series, uuid) = match store.engine {
        Engine::Sqlite => (
            "(WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1000) SELECT n FROM s) AS s",
            "lower(hex(randomblob(16)))",
        ),
        Engine::Postgres => ("generate_series(1, 1000) AS s (n)", "gen_random_uuid()"),
    };
    let columns = "callee_id, task, task_preview, origin, redelivery, attempt, deadline, history, reply, revision, \
        incarnation, lease_owner, created_at, updated_at, priority";
    store.sql(&format!(
        "INSERT INTO delegations (number, caller_id, delegation_id, status, standing, ended_at, {columns}) \
         SELECT -(d.number * 1000 + s.n), caller_id, {uuid}, \
             CASE WHEN s.n % 200 = 0 THEN 'queued' WHEN s.n % 10 = 0 THEN 'failed' ELSE 'completed' END, \
             CASE WHEN s.n % 200 = 0 THEN 'live' WHEN s.n % 10 = 0 THEN 'failed' ELSE 'completed' END, \
             CASE WHEN s.n % 200 = 0 THEN NULL ELSE created_at END, {columns} \
         FROM delegations d, {series} WHERE d.number > 0"
    ));
    store.sql(
        "INSERT INTO delegations_live (number, lease_owner, caller_id, callee_id) \
         SELECT number, lease_owner, caller_id, callee_id FROM delegations WHERE standing = 'live' AND number < 0",
    );
    store.sql(
        "INSERT INTO delegations_ended (number, standing, caller_id, callee_id) \
         SELECT number, standing, caller_id, callee_id FROM delegations WHERE standing <> 'live' AND number < 0",
    );
    for (activity_type, offset) in [("delegation", 0), ("a2a_receive", 1), ("agent_log", 2)] {
        store.sql(&format!(
            "INSERT INTO activity_logs (id, seq, workspace_id, activity_type, method, status, delegation_id, \
                 delegation_number, created_at) \
             SELECT {uuid}, (1000000 - number) * 3 + {offset}, caller_id, '{activity_type}', \
                 CASE WHEN '{activity_type}' = 'agent_log' THEN NULL ELSE 'delegate_result' END, 'ok', \
                 delegation_id, number, created_at FROM delegations WHERE standing <> 'live'"
        ));
    }
    store.sql(
        "INSERT INTO structure_events (seq, event_type, workspace_id, created_at) \
         SELECT 1000000 - number, 'X', caller_id, created_at FROM delegations WHERE number < 0",
    );
    store.sql(match store.engine {
        Engine::Sqlite => "ANALYZE",
        Engine::Postgres => "VACUUM ANALYZE",
    });
    (caller, terms)
}

pub(crate) fn each_read_goes_by_an_index(store: &TestStore) {
    let (own, terms) = fill(store);
    let mut complaints = Vec::new();
    for case in reads::all(store, own, &terms) {
        let Case {
            name,
            indexes,
            sorts,
            body,
        } = case;
        let sql = store.read(move |reader| Ok(statements(|| body(reader))));
        complaints.extend(held(store, name, indexes, &sql, sorts));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The caller alone would do for the plan, and be slow where a caller repeats much.
pub(crate) fn a_repeat_is_found_by_what_it_repeats(store: &TestStore) {
    let (_, terms) = fill(store);
    for body in reads::of_repeats(&terms) {
        let sql = store.read(move |reader| Ok(statements(|| body(reader))));
        let asking = sql.iter().filter(|sql| sql.contains("r.retry_of"));
        let plans: Vec<String> = asking.map(|sql| plan(store, sql)).collect();
        let is_sought = |plan: &String| match store.engine {
            Engine::Sqlite => plan.contains("delegations_repeats (caller_id=? AND retry_of=?"),
            Engine::Postgres => plan.lines().any(|line| {
                line.contains("Index Cond:")
                    && line.contains("retry_of = delegations.delegation_id")
            }),
        };
        assert!(
            !plans.is_empty() && plans.iter().all(is_sought),
            "{plans:#?}"
        );
    }
}

/// What a connection plans while a database is new, it keeps to.
pub(crate) fn the_feed_of_a_new_database_finds_delegations_by_id(store: &TestStore) {
    let read = reads::feed(WorkspaceId::mint(), Some("a2a_receive"), Some(7));
    let sql = store.read(move |reader| Ok(statements(|| read(reader))));
    let complaints = held(store, "inbox of a new database", reads::BY_KEY, &sql, false);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

pub(crate) fn each_write_finds_its_rows_by_an_index(store: &TestStore) {
    let (own, terms) = fill(store);
    let mut writer = store.writer();
    let acknowledge = Write::Acknowledge {
        workspace: own,
        upto: Position(i64::MAX),
    };
    let prune = Write::Prune(Prune {
        workspace: own,
        after: Position(0),
        limit: 500,
        before: Timestamp(1),
        hard_before: Timestamp(1),
    });
    let batch = [
        advance_write(&terms, 2, &completed("x")),
        acknowledge,
        prune,
        Write::ForgetNodes,
    ];
    let sql = statements(|| drop(writer.commit(&batch).unwrap()));
    assert!(sql.len() > 5, "{sql:?}");
    // PostgreSQL cannot prepare arrays without their types.
    let complaints = sql.iter().filter(|sql| !sql.contains("unnest"));
    let complaints = complaints.map(|sql| (sql, plan(store, sql)));
    let complaints: Vec<_> = complaints
        .filter(|(_, plan)| walk(plan).is_some())
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// A commit of delegations writes and prepares its statements once, not for each delegation.
pub(crate) fn what_is_said_often_is_prepared_once(store: &TestStore) {
    let (caller, target) = (created(store, None), created(store, None));
    let mut writer = store.writer();
    let acceptances = [(); 3].map(|()| acceptance(caller, target));
    let [one, other, third] = [0, 1, 2].map(|index| &acceptances[index].delegation.terms);
    let working = living(1, State::Pending);
    let batches = [
        acceptances.iter().map(accept).collect::<Vec<_>>(),
        vec![advance_write(one, 2, &working)],
        vec![
            advance_write(one, 3, &completed("x")),
            advance_write(other, 2, &failed("x")),
        ],
        vec![advance_write(third, 2, &completed("x"))],
    ];
    let said = statements(|| {
        for batch in &batches {
            drop(writer.commit(batch).unwrap());
        }
    });
    let prepared = PREPARED.take();
    // The lease is renewed now and then.
    let anew = said.iter().filter(|sql| !prepared.contains(sql));
    let anew: Vec<_> = anew.filter(|sql| !sql.contains("expires_at")).collect();
    assert!(said.len() > 5 && anew.is_empty(), "{anew:#?}");
}
