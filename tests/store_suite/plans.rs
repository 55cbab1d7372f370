//! How the databases carry out each read: by an index, whatever the history.

use std::cell::RefCell;
use std::sync::Once;

use baton::domain::*;
use baton::store::*;
use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection as _};
use diesel::sql_types::Text;
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _};

use crate::support::*;

thread_local! {
    /// What this thread asked a database, while somebody wants to know.
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

#[expect(clippy::needless_pass_by_value, reason = "Diesel hands it over so")]
fn hear(event: InstrumentationEvent<'_>) {
    if let InstrumentationEvent::StartQuery { query, .. } = event {
        HEARD.with_borrow_mut(|heard| heard.iter_mut().for_each(|all| all.push(query.to_string())));
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

type Body = Box<dyn FnOnce(&mut dyn Reader) + Send>;

fn body<T>(read: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static) -> Body {
    Box::new(move |reader| drop(read(reader).unwrap()))
}

fn list(party: Option<WorkspaceId>, statuses: &[Status]) -> Body {
    let filter = DelegationFilter {
        party,
        statuses: statuses.to_vec(),
        before: Some(Position(1)),
        older_than: None,
        limit: 50,
    };
    body(move |reader| reader.delegations(&filter))
}

fn feed(workspace: WorkspaceId, activity_type: Option<&str>, after: Option<i64>) -> Body {
    let filter = ActivityFilter {
        activity_type: activity_type.map(str::to_owned),
        after_position: after.map(Position),
        limit: 100,
        ..everything(workspace)
    };
    body(move |reader| reader.activity(&filter))
}

/// A read of the history, the indexes that its statements may use, and whether it may sort what it found.
struct Case {
    name: &'static str,
    indexes: &'static [&'static str],
    sorts: bool,
    body: Body,
}

const fn case(name: &'static str, indexes: &'static [&'static str], body: Body) -> Case {
    Case {
        name,
        indexes,
        sorts: false,
        body,
    }
}

/// One that may sort.
const fn sorting(name: &'static str, indexes: &'static [&'static str], body: Body) -> Case {
    Case {
        name,
        indexes,
        sorts: true,
        body,
    }
}

const BY_KEY: &[&str] = &["delegations_id"];
const BY_NUMBER: &[&str] = &["delegations_numbered_pkey", "INTEGER PRIMARY KEY"];
const LIVE: &[&str] = &["delegations_live"];
const OWED: &[&str] = &["delegations_owed"];
const COUNTS: &[&str] = &["delegations_live", "feed_position"];
// The looks by party or standing, then the lines that they found, by number.
const OF_PARTY: &[&str] = &[
    "delegations_sent",
    "delegations_taken",
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
];
const OF_ALL: &[&str] = &[
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
];
const BY_TYPE: &[&str] = &["activity_logs_feed_by_type"];
const BY_ID: &[&str] = &["activity_logs_id"];
const BY_PLACE: &[&str] = &["activity_logs_feed_by_type", "INTEGER PRIMARY KEY"];
const EVENTS: &[&str] = &[
    "structure_events_by_seq_pkey",
    "INTEGER PRIMARY KEY",
    NEWEST_EVENTS,
];
const OWN_EVENTS: &[&str] = &["structure_events_feed"];

fn reads_of_delegations(store: &TestStore, terms: &Terms) -> Vec<Case> {
    let node = store.lease.node();
    let limits = AuditLimits::default();
    let [one, two, three, four] = std::array::from_fn(|_| terms.key.clone());
    let (id, after) = (terms.key.id.clone(), Some(Position(-5000)));
    let find = body(move |reader| reader.find_key(WorkspaceId::mint(), &id));
    let live = body(move |reader| reader.live(node, after, 100));
    let waiting = body(|reader| reader.waiting_for_removed(100));
    let owed = body(move |reader| reader.owed_replies(after, 100));
    let audit = body(move |reader| reader.audit(after, 100, limits));
    let newest = body(move |reader| reader.audit_newest(100, limits));
    vec![
        case("load", BY_KEY, body(move |reader| reader.load(&one))),
        case("view", BY_KEY, body(move |reader| reader.view(&two))),
        case("task", BY_KEY, body(move |reader| reader.task(&three))),
        case("number", BY_KEY, body(move |reader| reader.number(&four))),
        sorting("find_key", BY_KEY, find),
        case("live", LIVE, live),
        case("waiting_for_removed", LIVE, waiting),
        sorting("counts", COUNTS, body(|reader| reader.counts())),
        sorting("owed_replies", OWED, owed),
        case("audit", BY_NUMBER, audit),
        case("audit_newest", BY_NUMBER, newest),
    ]
}

fn reads_of_lists(own: WorkspaceId) -> Vec<Case> {
    let (failed, queued) = (&[Status::Failed], &[Status::Queued]);
    vec![
        sorting("list of a party", OF_PARTY, list(Some(own), &[])),
        sorting("its failed ones", OF_PARTY, list(Some(own), failed)),
        sorting("its queued ones", OF_PARTY, list(Some(own), queued)),
        sorting("all", OF_ALL, list(None, &[])),
        sorting("all queued ones", OF_ALL, list(None, queued)),
        sorting("all failed ones", OF_ALL, list(None, failed)),
    ]
}

const ENDING: &[&str] = &["delegations_id", "activity_logs_one_ending"];
const FAMILY: &[&str] = &[
    "delegations_id",
    "delegations_children",
    "delegations_repeats",
];
// Whatever a list goes by, and those of exactly an id.
const OF_LINES: &[&str] = &[
    "delegations_sent",
    "delegations_taken",
    "delegations_live",
    "delegations_ended",
    "delegations_numbered_pkey",
    "INTEGER PRIMARY KEY",
    "delegations_id",
];

fn looking(parties: Parties, statuses: &[Status], text: Option<&str>) -> LineFilter {
    LineFilter {
        parties,
        statuses: statuses.to_vec(),
        search: text.map(Search::new),
        is_first: true,
        repeatable: false,
        before: Some(Position(1)),
        limit: 50,
        look: 500,
    }
}

fn reads_of_the_canvas(own: WorkspaceId, terms: &Terms) -> Vec<Case> {
    let lines = |filter: LineFilter| body(move |reader| reader.lines(&filter));
    let either = Parties::Either(own);
    let again = LineFilter {
        repeatable: true,
        ..looking(Parties::Any, &[Status::Failed], None)
    };
    let (counted, counted_again) = (looking(either, &[Status::Completed], None), again.clone());
    let [one, two, three, four, five] = std::array::from_fn(|_| terms.key.clone());
    let id = terms.key.id.clone();
    vec![
        sorting("marks", LIVE, body(|reader| reader.live_marks(None, 100))),
        sorting(
            "own marks",
            LIVE,
            body(move |reader| reader.live_marks(Some(own), 100)),
        ),
        sorting("lines", OF_LINES, lines(looking(Parties::Any, &[], None))),
        sorting(
            "lines of a party",
            OF_LINES,
            lines(looking(either, &[], None)),
        ),
        sorting(
            "lines with a text",
            OF_LINES,
            lines(looking(either, &[], Some("nowhere"))),
        ),
        sorting(
            "live lines",
            OF_LINES,
            lines(looking(Parties::Any, &[Status::Queued], None)),
        ),
        sorting(
            "ended lines",
            OF_LINES,
            lines(looking(Parties::Caller(own), &[Status::Failed], None)),
        ),
        sorting("lines to repeat", OF_LINES, lines(again)),
        sorting(
            "lines of keys",
            OF_LINES,
            body(move |reader| reader.lines_of(&[one])),
        ),
        sorting(
            "repeatable",
            OF_LINES,
            body(move |reader| reader.repeatable(&[two])),
        ),
        sorting(
            "tally",
            OF_LINES,
            body(move |reader| reader.tally(&counted)),
        ),
        sorting(
            "tally to repeat",
            OF_LINES,
            body(move |reader| reader.tally(&counted_again)),
        ),
        case(
            "family",
            FAMILY,
            body(move |reader| reader.family(&three, 100)),
        ),
        case("told_of", ENDING, body(move |reader| reader.told_of(&four))),
        case("parent", BY_KEY, body(move |reader| reader.parent(&five))),
        sorting(
            "given",
            BY_KEY,
            body(move |reader| reader.given(WorkspaceId::mint(), &id)),
        ),
    ]
}

fn reads_of_the_feed(own: WorkspaceId) -> Vec<Case> {
    let (row, inbox) = (ActivityId::mint(), Some("a2a_receive"));
    let position = body(move |reader| reader.activity_position(own, row));
    let placed = ActivityId::of(Position(7), Timestamp(7));
    let by_place = body(move |reader| reader.activity_position(own, placed));
    let newest = body(|reader| reader.recent_events(None, 50));
    let later = body(|reader| reader.events_after(None, Position(7), 50));
    let own_newest = body(move |reader| reader.recent_events(Some(own), 50));
    let own_later = body(move |reader| reader.events_after(Some(own), Position(7), 50));
    let next = body(move |reader| reader.next_feed(Some(own)));
    vec![
        sorting("feed", BY_TYPE, feed(own, None, None)),
        sorting("feed after a place", BY_TYPE, feed(own, None, Some(7))),
        case("inbox", BY_TYPE, feed(own, inbox, None)),
        case("inbox after a place", BY_TYPE, feed(own, inbox, Some(7))),
        case("activity_position", BY_ID, position),
        case("activity_position by place", BY_PLACE, by_place),
        case("recent_events", EVENTS, newest),
        case("events_after", EVENTS, later),
        case("recent_events of one", OWN_EVENTS, own_newest),
        case("events_after of one", OWN_EVENTS, own_later),
        case("next_feed", BY_TYPE, next),
    ]
}

pub(crate) fn each_read_goes_by_an_index(store: &TestStore) {
    let (own, terms) = fill(store);
    let mut cases = reads_of_delegations(store, &terms);
    cases.extend(reads_of_lists(own));
    cases.extend(reads_of_the_feed(own));
    cases.extend(reads_of_the_canvas(own, &terms));
    let mut complaints = Vec::new();
    for case in cases {
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

/// What a connection plans while a database is new, it keeps to.
pub(crate) fn the_feed_of_a_new_database_finds_delegations_by_id(store: &TestStore) {
    let read = feed(WorkspaceId::mint(), Some("a2a_receive"), Some(7));
    let sql = store.read(move |reader| Ok(statements(|| read(reader))));
    let complaints = held(store, "inbox of a new database", BY_KEY, &sql, false);
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
