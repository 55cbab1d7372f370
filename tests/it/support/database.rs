//! A database of one's own for each case, and a back door to it.

use std::env;
use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel::{
    Connection as _, PgConnection, QueryableByName, RunQueryDsl as _, SqliteConnection, sql_query,
};
use tempfile::TempDir;
use url::Url;
use uuid::Uuid;

const POSTGRES_VARIABLE: &str = "BATON_TEST_POSTGRES_URL";
const SKIP_VARIABLE: &str = "BATON_TEST_SKIP_POSTGRES";

/// A fresh, empty database. Dropping it removes it, whoever is still connected.
pub(crate) struct Database {
    backend: Backend,
}

enum Backend {
    Sqlite { directory: TempDir },
    Postgres { admin: Url, name: String },
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Cell {
    #[diesel(sql_type = Nullable<Text>)]
    t: Option<String>,
}

/// A connection to either database.
enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! with_connection {
    ($connection:expr, $inner:ident => $body:expr) => {
        match $connection {
            Connection::Sqlite($inner) => $body,
            Connection::Postgres($inner) => $body,
        }
    };
}

impl Database {
    /// A file in a directory of its own.
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self {
            backend: Backend::Sqlite { directory },
        }
    }

    /// A database of its own on the server that `scripts/test` started. `None` when the caller asked to skip these.
    pub(crate) fn postgres() -> Option<Self> {
        if env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1") {
            return None;
        }
        let admin = env::var(POSTGRES_VARIABLE).unwrap_or_else(|_missing| {
            panic!(
                "{POSTGRES_VARIABLE} is not set: run scripts/test, which starts a private PostgreSQL, \
                 or set {SKIP_VARIABLE}=1 to go without these tests"
            )
        });
        Some(Self::on(
            Url::parse(&admin).expect("a URL in BATON_TEST_POSTGRES_URL"),
        ))
    }

    /// A database of its own on that PostgreSQL, where the user may create databases.
    pub(crate) fn on(admin: Url) -> Self {
        let name = format!("baton_{}", Uuid::new_v4().simple());
        connect_postgres(&admin)
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .expect("CREATE DATABASE");
        Self {
            backend: Backend::Postgres { admin, name },
        }
    }

    /// What `DATABASE_URL` is to be.
    pub(crate) fn url(&self) -> String {
        match &self.backend {
            Backend::Sqlite { directory } => {
                format!("sqlite://{}", directory.path().join("baton.db").display())
            }
            Backend::Postgres { admin, name } => {
                let mut url = admin.clone();
                url.set_path(name);
                url.into()
            }
        }
    }

    /// The directory with the files of a `SQLite` database, and with nothing else.
    pub(crate) fn directory(&self) -> &Path {
        match &self.backend {
            Backend::Sqlite { directory } => directory.path(),
            Backend::Postgres { .. } => panic!("only SQLite's files are at hand"),
        }
    }

    /// Whether it is `SQLite`.
    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self.backend, Backend::Sqlite { .. })
    }

    /// Runs statements.
    pub(crate) fn execute(&self, sql: &str) {
        with_connection!(&mut self.connect(), connection => connection.batch_execute(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The number that a query such as `SELECT count(*) FROM …` gives.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        let query = format!("SELECT ({sql}) AS n");
        with_connection!(&mut self.connect(), connection => sql_query(&query).get_result::<Count>(connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .n
    }

    /// The texts of a query of one column, in its order.
    pub(crate) fn texts(&self, sql: &str) -> Vec<Option<String>> {
        let query = format!(
            "SELECT CAST(q.x AS text) AS t FROM (SELECT NULL AS x WHERE 1 = 0 UNION ALL {sql}) AS q"
        );
        with_connection!(&mut self.connect(), connection => sql_query(&query).load::<Cell>(connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .into_iter()
            .map(|cell| cell.t)
            .collect()
    }

    /// Makes every `operation` (`INSERT`, `UPDATE`, `DELETE`) on a row of `table` that meets `condition` (over `NEW` and
    /// `OLD`) fail, until the fault is dropped.
    pub(crate) fn fail_on(&self, operation: &str, table: &str, condition: &str) -> Fault<'_> {
        let harm = Harm::Refuse;
        let fault = self.harm_on(harm, operation, table, condition);
        fault.expect("both databases can refuse")
    }

    /// [`Database::fail_on`] in a way of one's own; `None` when the database has no such way.
    pub(crate) fn harm_on(
        &self,
        harm: Harm,
        operation: &str,
        table: &str,
        condition: &str,
    ) -> Option<Fault<'_>> {
        let name = format!("fault_{}", Uuid::new_v4().simple());
        let (make, heal) = if self.is_sqlite() {
            if harm != Harm::Refuse {
                return None;
            }
            (
                format!(
                    "CREATE TRIGGER {name} BEFORE {operation} ON {table} WHEN {condition} \
                     BEGIN SELECT RAISE(ABORT, 'a fault of the test'); END"
                ),
                format!("DROP TRIGGER {name}"),
            )
        } else {
            let raise = "RAISE EXCEPTION 'a fault of the test'";
            let cut = "PERFORM pg_terminate_backend(pg_backend_pid())";
            let (body, trigger, when) = match harm {
                Harm::Refuse => (raise, "TRIGGER", ("BEFORE", "")),
                Harm::Cut => (cut, "TRIGGER", ("BEFORE", "")),
                Harm::RefuseCommit => {
                    (raise, "CONSTRAINT TRIGGER", ("AFTER", "INITIALLY DEFERRED"))
                }
            };
            let (moment, deferred) = when;
            (
                format!(
                    "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN {body}; RETURN NEW; END $$; \
                     CREATE {trigger} {name} {moment} {operation} ON {table} {deferred} \
                     FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION {name}()"
                ),
                format!("DROP TRIGGER {name} ON {table}; DROP FUNCTION {name}()"),
            )
        };
        self.execute(&make);
        Some(Fault {
            database: self,
            heal,
        })
    }

    /// Keeps every writer waiting, and no reader, until the block is dropped.
    pub(crate) fn block_writes(&self, table: &str) -> WriteBlock {
        let mut connection = self.connect();
        let sql = if self.is_sqlite() {
            "BEGIN IMMEDIATE".to_owned()
        } else {
            format!("BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE")
        };
        with_connection!(&mut connection, inner => inner.batch_execute(&sql))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        WriteBlock { connection }
    }

    /// Cuts every connection that the server holds; on `SQLite`, which has none to cut, does nothing.
    pub(crate) fn cut_connections(&self) {
        if let Backend::Postgres { admin, name } = &self.backend {
            let sql = format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            );
            connect_postgres(admin)
                .batch_execute(&sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    fn connect(&self) -> Connection {
        match &self.backend {
            Backend::Sqlite { directory } => {
                let path = directory.path().join("baton.db");
                let path = path.to_str().unwrap();
                let mut connection = SqliteConnection::establish(path).expect("the test's SQLite");
                connection
                    .batch_execute("PRAGMA busy_timeout = 10000")
                    .expect("PRAGMA busy_timeout");
                Connection::Sqlite(connection)
            }
            Backend::Postgres { .. } => Connection::Postgres(
                PgConnection::establish(&self.url()).expect("the test's PostgreSQL"),
            ),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Backend::Postgres { admin, name } = &self.backend else {
            return;
        };
        let dropped = PgConnection::establish(admin.as_str())
            .map_err(|error| error.to_string())
            .and_then(|mut connection| {
                connection
                    .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
                    .map_err(|error| error.to_string())
            });
        if let Err(error) = dropped {
            println!("database {name} was left behind: {error}");
        }
    }
}

/// How a statement comes to grief.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Harm {
    /// It is refused.
    Refuse,
    /// The connection is cut over it; not on `SQLite`, which has none.
    Cut,
    /// It passes, and the commit is refused; not on `SQLite`.
    RefuseCommit,
}

/// A trigger that makes statements fail. Dropping it heals the database.
pub(crate) struct Fault<'a> {
    database: &'a Database,
    heal: String,
}

impl Fault<'_> {
    /// Lets the statements pass again.
    pub(crate) fn heal(self) {
        drop(self);
    }
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.database.execute(&self.heal);
        }
    }
}

/// An open transaction that no writer gets past.
pub(crate) struct WriteBlock {
    connection: Connection,
}

impl Drop for WriteBlock {
    fn drop(&mut self) {
        let ended =
            with_connection!(&mut self.connection, inner => inner.batch_execute("ROLLBACK"));
        if let Err(error) = ended {
            println!("the write block could not be lifted: {error}");
        }
    }
}

fn connect_postgres(url: &Url) -> PgConnection {
    PgConnection::establish(url.as_str()).unwrap_or_else(|error| panic!("no PostgreSQL: {error}"))
}
