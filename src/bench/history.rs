//! A past for a database: finished delegations by the million, each a copy of a real one.
//!
//! The server is stopped meanwhile. Columns are looked up, not listed, so that the copies are what the server of any
//! version, or the yardstick, has written itself.

use super::database::{Column, Connection};

/// How many delegations one transaction brings.
const CHUNK: u64 = 50_000;
/// Over how many workspaces that nobody speaks for the past is spread.
const STRANGERS: u64 = 1000;

/// An odd number, so that no two numbers below 2^32 are scattered to the same place.
const SCATTER: u64 = 2_654_435_761;
/// How the ids of copies, and of those strangers, end.
const DELEGATION: &str = "-0000-4000-8000-00000000d000";
const CALLER: &str = "-0000-4000-8000-00000000c000";

/// What holds a delegation's rows, with the column that names the caller, and which of its rows are of delegations.
const TABLES: [(&str, &str, &str); 5] = [
    ("delegations", "caller_id", "TRUE"),
    ("delegations_live", "caller_id", "TRUE"),
    ("delegations_ended", "caller_id", "TRUE"),
    ("activity_logs", "workspace_id", "TRUE"),
    (
        "structure_events",
        "workspace_id",
        "event_type LIKE 'DELEGATION_%'",
    ),
];

/// The delegation that is copied, the only one of its caller.
#[derive(Clone, Debug)]
pub(super) struct Original {
    pub(super) caller: String,
    pub(super) id: String,
}

/// How many copies, and whose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past<'a> {
    /// The number of the first copy,
    pub(super) from: u64,
    /// and the one beyond the last.
    pub(super) to: u64,
    /// Those with lower numbers than this are
    pub(super) in_one: u64,
    /// of this workspace.
    pub(super) one: &'a str,
}

/// Copies the original.
pub(super) fn fill(
    database: &mut Connection,
    original: &Original,
    past: Past<'_>,
) -> anyhow::Result<()> {
    invite(database, original)?;
    let mut first = past.from;
    while first < past.to {
        let last = past.to.min(first + CHUNK) - 1;
        database.execute("BEGIN")?;
        copy(database, original, past, (first, last))?;
        database.execute("COMMIT")?;
        first = last + 1;
    }
    Ok(())
}

/// Leaves a database, whose server was killed, as one that was at rest for long: what was killed counts no more as a
/// node, and nothing is left to be tidied up.
pub(super) fn settle(database: &mut Connection) -> anyhow::Result<()> {
    if !database.columns("nodes")?.is_empty() {
        database.execute("UPDATE nodes SET expires_at = started_at")?;
        database.execute("UPDATE feed_position SET nodes = 0")?;
    }
    match database {
        Connection::Sqlite(_) => database.execute("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE);"),
        Connection::Postgres(_) => {
            database.execute("VACUUM ANALYZE")?;
            database.execute("CHECKPOINT")
        }
    }
}

/// Makes the workspaces of the past: in the original's tables rows need one.
fn invite(database: &mut Connection, original: &Original) -> anyhow::Result<()> {
    let language = Language::of(database);
    let columns = database.columns("workspaces")?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let stranger = language.stranger();
    let values: Vec<String> = names
        .iter()
        .map(|name| match *name {
            "id" => stranger.clone(),
            name => format!("t.{name}"),
        })
        .collect();
    database.execute(&format!(
        "INSERT INTO workspaces ({}) {} SELECT {} FROM workspaces t CROSS JOIN {} WHERE t.id = '{}' ON CONFLICT DO NOTHING",
        names.join(", "),
        language.numbers_before(0, STRANGERS - 1),
        values.join(", "),
        language.numbers(0, STRANGERS - 1),
        original.caller,
    ))
}

/// Copies it once for each number of the range.
fn copy(
    database: &mut Connection,
    original: &Original,
    past: Past<'_>,
    (first, last): (u64, u64),
) -> anyhow::Result<()> {
    let language = Language::of(database);
    let places = Places::take(database, original, last - first + 1)?;
    for (table, caller, which) in TABLES {
        let columns = database.columns(table)?;
        if columns.is_empty() {
            continue;
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<String> = columns
            .iter()
            .map(|column| language.value(column, original, past, places.as_ref(), first))
            .collect();
        database.execute(&format!(
            "INSERT INTO {table} ({}) {} SELECT {} FROM {table} t CROSS JOIN {} WHERE t.{caller} = '{}' AND {which}",
            names.join(", "),
            language.numbers_before(first, last),
            values.join(", "),
            language.numbers(first, last),
            original.caller,
        ))?;
    }
    Ok(())
}

/// Where the copies stand in the order of all rows; nowhere if there is no such order.
struct Places {
    first: u64,
    origin: u64,
    each: u64,
}

impl Places {
    /// Takes as many as so many copies need.
    fn take(
        database: &mut Connection,
        original: &Original,
        copies: u64,
    ) -> anyhow::Result<Option<Self>> {
        if database.columns("feed_position")?.is_empty() {
            return Ok(None);
        }
        let caller = &original.caller;
        let mut bound = |which: &str| {
            database.number(&format!(
                "SELECT {which}(seq) AS number FROM (SELECT seq FROM activity_logs WHERE workspace_id = '{caller}' \
                 UNION ALL SELECT seq FROM structure_events WHERE workspace_id = '{caller}') places"
            ))
        };
        let (origin, end) = (bound("min")?, bound("max")?);
        let each = end - origin + 1;
        let last = database.number("SELECT last AS number FROM feed_position")?;
        database.execute(&format!(
            "UPDATE feed_position SET last = last + {}",
            each * copies
        ))?;
        Ok(Some(Self {
            first: last + 1,
            origin,
            each,
        }))
    }
}

/// The id of the copy with this number.
pub(super) fn delegation_of(number: u64) -> String {
    let scattered = number.wrapping_mul(SCATTER) & 0xffff_ffff;
    format!("{scattered:08x}{DELEGATION}")
}

/// Whose the copy with this number is, if not the one caller's.
pub(super) fn caller_of(number: u64) -> String {
    format!("{:08x}{CALLER}", number % STRANGERS)
}

/// What gives a copy of a row of `t` an id of its own, if that has one.
pub(super) fn fresh_id(database: &Connection) -> String {
    Language::of(database).fresh_id()
}

/// How a database says things.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Sqlite,
    Postgres,
}

impl Language {
    const fn of(database: &Connection) -> Self {
        match database {
            Connection::Sqlite(_) => Self::Sqlite,
            Connection::Postgres(_) => Self::Postgres,
        }
    }

    fn numbers_before(self, first: u64, last: u64) -> String {
        match self {
            Self::Sqlite => format!(
                "WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n < {last})"
            ),
            Self::Postgres => String::new(),
        }
    }

    fn numbers(self, first: u64, last: u64) -> String {
        match self {
            Self::Sqlite => "g".to_owned(),
            Self::Postgres => {
                format!("generate_series({first}::bigint, {last}::bigint) AS g(n)")
            }
        }
    }

    /// What a column of the copy holds.
    fn value(
        self,
        column: &Column,
        original: &Original,
        past: Past<'_>,
        places: Option<&Places>,
        first: u64,
    ) -> String {
        let Column { name, kind } = column;
        let Original { caller, id } = original;
        match (name.as_str(), places) {
            ("id", _) => self.fresh_id(),
            ("delegation_id", _) => self.delegation(),
            ("seq" | "number" | "delegation_number", Some(places)) => {
                let Places {
                    first: place,
                    origin,
                    each,
                } = places;
                format!("{place} + (n - {first}) * {each} + t.{name} - {origin}")
            }
            ("caller_id" | "workspace_id" | "source_id", _) => {
                let theirs = self.caller(past);
                format!("CASE WHEN t.{name} = '{caller}' THEN {theirs} ELSE t.{name} END")
            }
            ("request_body" | "response_body" | "payload", _) => {
                let new = self.delegation();
                match self {
                    Self::Sqlite => format!("replace(t.{name}, '{id}', {new})"),
                    Self::Postgres => {
                        format!("replace(t.{name}::text, '{id}', {new})::{kind}")
                    }
                }
            }
            _ => format!("t.{name}"),
        }
    }

    /// An id for a copy of a row of `t`, if that has one.
    fn fresh_id(self) -> String {
        let id = match self {
            Self::Sqlite => {
                "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) \
                 || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
            }
            Self::Postgres => "gen_random_uuid()",
        };
        format!("CASE WHEN t.id IS NOT NULL THEN {id} END")
    }

    /// Eight hexadecimal digits of a number, as the beginning of an id.
    fn id_of(self, number: &str, rest: &str) -> String {
        match self {
            Self::Sqlite => format!("printf('%08x', {number}) || '{rest}'"),
            Self::Postgres => format!("lpad(to_hex({number}), 8, '0') || '{rest}'"),
        }
    }

    /// The id of the nth copy: scattered, as ids that agents choose are.
    fn delegation(self) -> String {
        self.id_of(&format!("((n * {SCATTER}) & 4294967295)"), DELEGATION)
    }

    fn stranger(self) -> String {
        let id = self.id_of(&format!("(n % {STRANGERS})"), CALLER);
        format!("({id}){}", self.uuid())
    }

    fn caller(self, past: Past<'_>) -> String {
        let Past { in_one, one, .. } = past;
        let (stranger, uuid) = (self.stranger(), self.uuid());
        format!("CASE WHEN n < {in_one} THEN '{one}'{uuid} ELSE {stranger} END")
    }

    /// What makes a text an id.
    const fn uuid(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "::uuid",
        }
    }
}
