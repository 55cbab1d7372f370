//! The database that the bench makes for a server, fills, and counts in behind the server's back.
//!
//! This is the one place outside `store` that uses Diesel, with statements as text: the bench looks at rows as a
//! stranger would, and its yardstick has tables of its own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection};

/// Either connection.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Runs the same on either connection.
macro_rules! on_either {
    ($connection:expr, $open:ident => $body:expr) => {
        match $connection {
            Connection::Sqlite($open) => $body,
            Connection::Postgres($open) => $body,
        }
    };
}

impl Connection {
    pub(super) fn open(url: &str) -> anyhow::Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            let mut connection = SqliteConnection::establish(path)?;
            connection.batch_execute("PRAGMA busy_timeout = 60000; PRAGMA synchronous = FULL;")?;
            return Ok(Self::Sqlite(connection));
        }
        let mut connection = PgConnection::establish(url)?;
        connection.batch_execute(
            "SET application_name = 'baton bench'; SET client_min_messages = warning;",
        )?;
        Ok(Self::Postgres(connection))
    }

    pub(super) fn execute(&mut self, statements: &str) -> anyhow::Result<()> {
        on_either!(self, open => open.batch_execute(statements)?);
        Ok(())
    }

    pub(super) fn number(&mut self, query: &str) -> anyhow::Result<u64> {
        let number = on_either!(self, open => {
            diesel::sql_query(query).get_result::<Number>(open)?
        });
        Ok(u64::try_from(number.number)?)
    }

    pub(super) fn rows_of_workspaces(&mut self, query: &str) -> anyhow::Result<Vec<RowsOf>> {
        Ok(on_either!(self, open => diesel::sql_query(query).load(open)?))
    }

    /// Rows of texts, named `one`, `two` and `three`.
    pub(super) fn texts(&mut self, query: &str) -> anyhow::Result<Vec<Texts>> {
        Ok(on_either!(self, open => diesel::sql_query(query).load(open)?))
    }

    /// The columns of a table; none when there is no such table.
    pub(super) fn columns(&mut self, table: &str) -> anyhow::Result<Vec<Column>> {
        let query = match self {
            Self::Sqlite(_) => {
                format!("SELECT name, type AS kind FROM pragma_table_info('{table}')")
            }
            Self::Postgres(_) => format!(
                "SELECT column_name::text AS name, udt_name::text AS kind FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = '{table}' ORDER BY ordinal_position"
            ),
        };
        Ok(on_either!(self, open => diesel::sql_query(query).load(open)?))
    }

    pub(super) fn processes(&mut self, query: &str) -> anyhow::Result<Vec<u32>> {
        let processes: Vec<Process> =
            on_either!(self, open => diesel::sql_query(query).load(open)?);
        let ids = processes.iter().map(|process| u32::try_from(process.pid));
        Ok(ids.collect::<Result<_, _>>()?)
    }
}

/// A row of texts.
#[derive(QueryableByName)]
pub(super) struct Texts {
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) one: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) two: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) three: Option<String>,
}

/// A column of a table.
#[derive(QueryableByName)]
pub(super) struct Column {
    #[diesel(sql_type = Text)]
    pub(super) name: String,
    #[diesel(sql_type = Text)]
    pub(super) kind: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Process {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

/// How many rows a workspace has, and of how many delegations.
#[derive(QueryableByName)]
pub(super) struct RowsOf {
    #[diesel(sql_type = Text)]
    pub(super) workspace: String,
    #[diesel(sql_type = BigInt)]
    pub(super) row_count: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) delegation_count: i64,
}

/// What the database calls itself.
pub(super) fn version(url: &str) -> anyhow::Result<Option<String>> {
    let (url, query) = if is_postgres(url) {
        (url, "version()")
    } else {
        ("sqlite://:memory:", "'SQLite ' || sqlite_version()")
    };
    let query = format!("SELECT {query} AS one, NULL AS two, NULL AS three");
    let said = Connection::open(url)?.texts(&query)?;
    Ok(said.into_iter().find_map(|said| said.one))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// A database that ends with the value.
pub(super) enum Database {
    Sqlite {
        directory: PathBuf,
    },
    Postgres {
        /// Where it was made from.
        server: String,
        name: String,
        url: String,
    },
}

impl Database {
    /// Makes one on the PostgreSQL of this URL, or else a SQLite file in a new directory below `place`.
    pub(super) fn make(url: &str, place: Option<&Path>) -> anyhow::Result<Self> {
        let name = format!("baton_bench_{}", uuid::Uuid::now_v7().simple());
        if !is_postgres(url) {
            let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
            let directory = place.join(name);
            std::fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
            return Ok(Self::Sqlite { directory });
        }
        let mut own = url::Url::parse(url).context("DATABASE_URL")?;
        own.set_path(&name);
        Connection::open(url)?.execute(&format!("CREATE DATABASE {name}"))?;
        Ok(Self::Postgres {
            server: url.to_owned(),
            name,
            url: own.into(),
        })
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite { directory } => {
                format!("sqlite://{}", directory.join("bench.db").display())
            }
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite { .. } => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    pub(super) fn open(&self) -> anyhow::Result<Connection> {
        Connection::open(&self.url())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let gone = match self {
            Self::Sqlite { directory } => {
                std::fs::remove_dir_all(directory).map_err(anyhow::Error::from)
            }
            Self::Postgres { server, name, .. } => Connection::open(server).and_then(|mut open| {
                open.execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            }),
        };
        if let Err(error) = gone {
            tracing::warn!(%error, "the database of the bench could not be removed");
        }
    }
}
