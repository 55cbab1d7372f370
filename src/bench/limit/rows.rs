//! The rows of an ending: many in a statement on PostgreSQL, as arrays; one by one on SQLite, whose statements cost no
//! round trip. They are prepared once.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Nullable, Text};
use diesel::sqlite::Sqlite;
use diesel::{QueryResult, RunQueryDsl};

use crate::bench::database::{Column, Connection, Texts};
use crate::bench::history::{Original, caller_of, delegation_of, fresh_id};

/// How many places in the order of all rows an ending takes at most.
const PLACES: u64 = 8;

/// The statements of an ending, and what its rows hold.
pub(super) struct Writing {
    original: Original,
    /// The first place that is free.
    place: u64,
    update: Statement,
    /// From what is found as live to what is found by how it ended.
    moves: [Statement; 2],
    inserts: Vec<(Statement, Vec<Texts>)>,
}

/// A statement, around what is bound.
struct Statement {
    before: String,
    after: String,
    keys_only: bool,
}

impl Writing {
    pub(super) fn prepare(
        database: &mut Connection,
        ended: &Original,
        beyond: u64,
    ) -> anyhow::Result<Self> {
        let Original { caller, .. } = ended;
        let last = database.number("SELECT last AS number FROM feed_position")?;
        database.execute(&format!(
            "UPDATE feed_position SET last = last + {}",
            beyond * PLACES
        ))?;
        let mut inserts = Vec::new();
        for (table, kind, bodies, which) in [
            (
                "activity_logs",
                "activity_type",
                "cast(request_body AS text) AS two, cast(response_body AS text) AS three",
                "method = 'delegate_result'",
            ),
            (
                "structure_events",
                "event_type",
                "cast(payload AS text) AS two, NULL AS three",
                "event_type = 'DELEGATION_COMPLETE'",
            ),
        ] {
            let originals = database.texts(&format!(
                "SELECT {kind} AS one, {bodies} FROM {table} WHERE workspace_id = '{caller}' AND {which}"
            ))?;
            inserts.push((
                insert(database, table, kind, which, (caller, last + 1))?,
                originals,
            ));
        }
        Ok(Self {
            original: ended.clone(),
            place: last + 1,
            update: update(database, caller)?,
            moves: moves(database),
            inserts,
        })
    }

    /// Ends the delegations with these numbers; says how many there were.
    pub(super) fn end(
        &self,
        database: &mut Connection,
        first: u64,
        last: u64,
    ) -> anyhow::Result<u64> {
        let mut rows = Vec::new();
        for (table, (insert, originals)) in (0_u64..).zip(&self.inserts) {
            let offset = table * PLACES / 2;
            let numbers = first..last;
            rows = numbers
                .flat_map(|number| self.rows(number, offset, originals))
                .collect();
            insert.run(database, &rows)?;
        }
        // The last table has one row for each.
        let ended = self.update.run(database, &rows)?;
        for statement in &self.moves {
            let moved = statement.run(database, &rows)?;
            anyhow::ensure!(
                moved == ended,
                "{moved} of {ended} were found as they stand"
            );
        }
        Ok(u64::try_from(ended)?)
    }

    /// A number's copies of the rows of one table.
    fn rows(&self, number: u64, offset: u64, originals: &[Texts]) -> Vec<Row> {
        let delegation = delegation_of(number);
        let renamed = |text: &Option<String>| {
            let text = text.as_deref()?;
            Some(text.replace(&self.original.id, &delegation))
        };
        let rows = originals.iter().zip(0_u64..).map(|(original, index)| {
            let place = self.place + number * PLACES + offset + index;
            Row {
                place: i64::try_from(place).unwrap_or(i64::MAX),
                caller: caller_of(number),
                delegation: delegation.clone(),
                kind: original.one.clone().unwrap_or_default(),
                request: renamed(&original.two),
                response: renamed(&original.three),
            }
        });
        rows.collect()
    }
}

/// What differs from the original.
struct Row {
    place: i64,
    caller: String,
    delegation: String,
    kind: String,
    request: Option<String>,
    response: Option<String>,
}

/// The beginning of what stands for the rows in a statement.
const fn source(database: &Connection) -> &'static str {
    match database {
        Connection::Sqlite(_) => "(SELECT ",
        Connection::Postgres(_) => "unnest(",
    }
}

/// What the rows are called after.
const fn alias(database: &Connection, keys_only: bool) -> &'static str {
    match (database, keys_only) {
        (Connection::Sqlite(_), _) => ") AS n",
        (Connection::Postgres(_), true) => ") AS n(caller, delegation)",
        (Connection::Postgres(_), false) => {
            ") AS n(caller, delegation, place, kind, request, response)"
        }
    }
}

fn insert(
    database: &mut Connection,
    table: &str,
    kind: &str,
    which: &str,
    (caller, start): (&str, u64),
) -> anyhow::Result<Statement> {
    let columns = database.columns(table)?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let fresh_id = fresh_id(database);
    let value = |Column { name, .. }: &Column| match name.as_str() {
        "id" => fresh_id.clone(),
        "seq" => "n.place".to_owned(),
        "delegation_number" => format!("{start} + (n.place - {start}) / {PLACES}"),
        "workspace_id" | "source_id" => {
            format!("CASE WHEN t.{name} = '{caller}' THEN n.caller ELSE t.{name} END")
        }
        "delegation_id" => "n.delegation".to_owned(),
        "request_body" | "payload" => "n.request".to_owned(),
        "response_body" => "n.response".to_owned(),
        _ => format!("t.{name}"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let original = format!("t.workspace_id = '{caller}' AND t.{kind} = n.kind");
    Ok(Statement {
        before: format!(
            "INSERT INTO {table} ({}) SELECT {} FROM {table} t JOIN {}",
            names.join(", "),
            values.join(", "),
            source(database)
        ),
        after: format!("{} ON {original} WHERE {which}", alias(database, false)),
        keys_only: false,
    })
}

/// Gives the delegations everything that the ended one has, but for its key.
fn update(database: &mut Connection, caller: &str) -> anyhow::Result<Statement> {
    let columns = database.columns("delegations")?;
    let names = columns.iter().map(|column| column.name.as_str());
    let changed: Vec<String> = names
        .filter(|name| !matches!(*name, "number" | "caller_id" | "delegation_id"))
        .map(|name| format!("{name} = t.{name}"))
        .collect();
    Ok(Statement {
        before: format!(
            "UPDATE delegations SET {} FROM delegations t, {}",
            changed.join(", "),
            source(database)
        ),
        after: format!(
            "{} WHERE t.caller_id = '{caller}' AND delegations.caller_id = n.caller \
             AND delegations.delegation_id = n.delegation",
            alias(database, true)
        ),
        keys_only: true,
    })
}

/// Takes the delegations off those that live, and puts them among those that ended.
fn moves(database: &Connection) -> [Statement; 2] {
    let of_key = format!(
        "{} WHERE d.caller_id = n.caller AND d.delegation_id = n.delegation",
        alias(database, true)
    );
    let source = source(database);
    let statement = |before: &str, after: String| Statement {
        before: format!("{before} FROM delegations d, {source}"),
        after,
        keys_only: true,
    };
    [
        statement(
            "DELETE FROM delegations_live WHERE number IN (SELECT d.number",
            format!("{of_key})"),
        ),
        statement(
            "INSERT INTO delegations_ended (number, standing, caller_id, callee_id) \
             SELECT d.number, d.standing, d.caller_id, d.callee_id",
            of_key,
        ),
    ]
}

impl Statement {
    fn run(&self, database: &mut Connection, rows: &[Row]) -> anyhow::Result<usize> {
        let changed = match database {
            Connection::Sqlite(open) => {
                let mut changed = 0;
                for rows in rows {
                    let statement = self;
                    changed += Bound { statement, rows }.execute(open)?;
                }
                changed
            }
            Connection::Postgres(open) => Bound {
                statement: self,
                rows: Arrays::of(rows),
            }
            .execute(open)?,
        };
        Ok(changed)
    }
}

/// A statement with its rows. Unlike `sql_query` it is prepared once, and found again by its text.
struct Bound<'a, Rows> {
    statement: &'a Statement,
    rows: Rows,
}

impl<Rows> QueryId for Bound<'_, Rows> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Rows, Connection> RunQueryDsl<Connection> for Bound<'_, Rows> {}

impl QueryFragment<Sqlite> for Bound<'_, &Row> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        let Bound { statement, rows } = self;
        out.push_sql(&statement.before);
        out.push_bind_param::<Text, _>(&rows.caller)?;
        out.push_sql(" AS caller, ");
        out.push_bind_param::<Text, _>(&rows.delegation)?;
        out.push_sql(" AS delegation");
        if !statement.keys_only {
            out.push_sql(", ");
            out.push_bind_param::<BigInt, _>(&rows.place)?;
            out.push_sql(" AS place, ");
            out.push_bind_param::<Text, _>(&rows.kind)?;
            out.push_sql(" AS kind, ");
            out.push_bind_param::<Nullable<Text>, _>(&rows.request)?;
            out.push_sql(" AS request, ");
            out.push_bind_param::<Nullable<Text>, _>(&rows.response)?;
            out.push_sql(" AS response");
        }
        out.push_sql(&statement.after);
        Ok(())
    }
}

struct Arrays {
    callers: Vec<String>,
    delegations: Vec<String>,
    places: Vec<i64>,
    kinds: Vec<String>,
    requests: Vec<Option<String>>,
    responses: Vec<Option<String>>,
}

impl Arrays {
    fn of(rows: &[Row]) -> Self {
        let texts = |text: fn(&Row) -> &String| rows.iter().map(text).cloned().collect();
        Self {
            callers: texts(|row| &row.caller),
            delegations: texts(|row| &row.delegation),
            places: rows.iter().map(|row| row.place).collect(),
            kinds: texts(|row| &row.kind),
            requests: rows.iter().map(|row| row.request.clone()).collect(),
            responses: rows.iter().map(|row| row.response.clone()).collect(),
        }
    }
}

impl QueryFragment<Pg> for Bound<'_, Arrays> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let Bound { statement, rows } = self;
        out.push_sql(&statement.before);
        out.push_bind_param::<Array<Text>, _>(&rows.callers)?;
        out.push_sql("::uuid[], ");
        out.push_bind_param::<Array<Text>, _>(&rows.delegations)?;
        if !statement.keys_only {
            out.push_sql(", ");
            out.push_bind_param::<Array<BigInt>, _>(&rows.places)?;
            out.push_sql(", ");
            out.push_bind_param::<Array<Text>, _>(&rows.kinds)?;
            out.push_sql(", ");
            out.push_bind_param::<Array<Nullable<Text>>, _>(&rows.requests)?;
            out.push_sql(", ");
            out.push_bind_param::<Array<Nullable<Text>>, _>(&rows.responses)?;
        }
        out.push_sql(&statement.after);
        Ok(())
    }
}
