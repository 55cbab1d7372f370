//! One statement, one commit: the way in which the original uses its database.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{Binary, Nullable, Text};
use diesel::{
    Connection as _, OptionalExtension as _, PgConnection, QueryableByName, RunQueryDsl as _,
    SqliteConnection,
};

use super::schema::SCHEMA;

/// The original's limit of open connections.
const CONNECTIONS: u32 = 25;

/// What PostgreSQL says, and what SQLite says instead.
const TRANSLATIONS: [(&str, &str); 9] = [
    ("::uuid", ""),
    ("::jsonb", ""),
    ("::timestamptz", ""),
    ("::text", ""),
    ("gen_random_uuid()", "(lower(hex(randomblob(16))))"),
    (
        "DEFAULT now()",
        "DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))",
    ),
    ("now()", "strftime('%Y-%m-%d %H:%M:%f', 'now')"),
    (" USING gin ", " "),
    (" bytea ", " blob "),
];

/// The yardstick's database.
pub(super) struct Database {
    connections: Connections,
    commits: AtomicU64,
}

enum Connections {
    /// One connection at a time: SQLite lets one write anyway.
    Sqlite(Mutex<SqliteConnection>),
    Postgres(Pool<ConnectionManager<PgConnection>>),
}

/// Up to seven texts, and nothing else, come back from any statement of the original.
#[derive(QueryableByName)]
pub(super) struct Found {
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) one: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) two: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) three: Option<String>,
}

/// Binds texts, a statement's only parameters beside a token's hash. Each is parsed and planned every time.
macro_rules! bound {
    ($sql:expr, $texts:expr) => {
        $texts
            .iter()
            .fold(diesel::sql_query($sql).into_boxed(), |query, text| {
                query.bind::<Text, _>((*text).to_owned())
            })
    };
}

impl Database {
    pub(super) fn open(url: &str) -> anyhow::Result<Self> {
        let Some(path) = url.strip_prefix("sqlite://") else {
            let pool = Pool::builder()
                .max_size(CONNECTIONS)
                // It asks nothing before each use.
                .test_on_check_out(false)
                .build(ConnectionManager::<PgConnection>::new(url))?;
            pool.get()?.batch_execute(SCHEMA)?;
            return Ok(Self::with(Connections::Postgres(pool)));
        };
        let mut connection = SqliteConnection::establish(path)?;
        connection.batch_execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 60000;",
        )?;
        connection.batch_execute(&translated(SCHEMA))?;
        Ok(Self::with(Connections::Sqlite(Mutex::new(connection))))
    }

    const fn with(connections: Connections) -> Self {
        let commits = AtomicU64::new(0);
        Self {
            connections,
            commits,
        }
    }

    /// How often something was changed.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Changes something, and commits it.
    pub(super) fn change(&self, sql: &str, texts: &[&str]) -> anyhow::Result<()> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        match &self.connections {
            Connections::Postgres(pool) => {
                let mut connection = pool.get()?;
                bound!(sql, texts).execute(&mut connection)?;
            }
            Connections::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                bound!(translated(sql), texts).execute(&mut *connection)?;
            }
        }
        Ok(())
    }

    /// Reads rows of three texts, named `one`, `two` and `three`.
    pub(super) fn read(&self, sql: &str, texts: &[&str]) -> anyhow::Result<Vec<Found>> {
        Ok(match &self.connections {
            Connections::Postgres(pool) => {
                let mut connection = pool.get()?;
                bound!(sql, texts).load(&mut connection)?
            }
            Connections::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                bound!(translated(sql), texts).load(&mut *connection)?
            }
        })
    }

    /// Looks a token up by its hash.
    pub(super) fn token(&self, sql: &str, hash: &[u8]) -> anyhow::Result<Option<Found>> {
        let query = |sql: String| diesel::sql_query(sql).bind::<Binary, _>(hash.to_vec());
        Ok(match &self.connections {
            Connections::Postgres(pool) => {
                let mut connection = pool.get()?;
                query(sql.to_owned())
                    .get_result(&mut connection)
                    .optional()?
            }
            Connections::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                query(translated(sql))
                    .get_result(&mut *connection)
                    .optional()?
            }
        })
    }

    /// Stores a token by its hash.
    pub(super) fn store_token(&self, workspace: &str, hash: &[u8]) -> anyhow::Result<()> {
        let sql = "INSERT INTO workspace_auth_tokens (token_hash, prefix, workspace_id) VALUES ($1, 'bench', $2::uuid)";
        let query = |sql: String| {
            diesel::sql_query(sql)
                .bind::<Binary, _>(hash.to_vec())
                .bind::<Text, _>(workspace.to_owned())
        };
        let stored = match &self.connections {
            Connections::Postgres(pool) => query(sql.to_owned()).execute(&mut pool.get()?)?,
            Connections::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                query(translated(sql)).execute(&mut *connection)?
            }
        };
        (stored == 1)
            .then_some(())
            .context("a token was not stored")
    }
}

fn translated(sql: &str) -> String {
    let sql = sql.to_owned();
    TRANSLATIONS
        .iter()
        .fold(sql, |sql, (postgres, sqlite)| sql.replace(postgres, sqlite))
}
