//! Opening connections, each set up the same way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection, SqliteConnection};

use super::Error;

/// Where the database is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(String),
}

impl Target {
    /// Reads a `DATABASE_URL`.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            if path.is_empty() || path.contains(":memory:") {
                return Err(Error::Refused(format!(
                    "{url:?} names no file; write sqlite://PATH, for instance sqlite://baton.db"
                )));
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(Error::Refused(
                "the database URL must begin with sqlite://, postgres:// or postgresql://"
                    .to_owned(),
            ));
        }
        if !cfg!(feature = "pg-tls") && !is_private(url) {
            return Err(Error::Refused(
                "this build cannot encrypt the connection to a PostgreSQL on another machine; build it with \
                 `--features pg-tls`, or add `sslmode=disable` to the URL to go in the clear"
                    .to_owned(),
            ));
        }
        Ok(Self::Postgres(url.to_owned()))
    }
}

/// Whether nobody else can listen: every host is loopback or a socket, or the URL itself asks for no encryption.
/// libpq's default, `sslmode=prefer`, would go on in the clear without a word.
fn is_private(url: &str) -> bool {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let (place, query) = after_scheme.split_once('?').unwrap_or((after_scheme, ""));
    let authority = place
        .split_once('/')
        .map_or(place, |(authority, _)| authority);
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let mut named: Vec<String> = hosts.split(',').map(without_port).collect();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "sslmode" if value == "disable" => return true,
            "host" | "hostaddr" => named.extend(value.split(',').map(str::to_owned)),
            // A service file may name any host.
            "service" => return false,
            _ => {}
        }
    }
    if named.iter().all(String::is_empty) {
        named.extend(std::env::var("PGHOST"));
        named.extend(std::env::var("PGHOSTADDR"));
    }
    named.iter().all(|host| is_local(host))
}

fn without_port(host: &str) -> String {
    let bare = match host.strip_prefix('[') {
        Some(address) => address
            .split_once(']')
            .map_or(address, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    url::form_urlencoded::parse(format!("h={bare}").as_bytes())
        .next()
        .map_or_else(|| bare.to_owned(), |(_, decoded)| decoded.into_owned())
}

fn is_local(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.is_empty()
        || host.starts_with('/')
        || host.starts_with('@')
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

/// What the URL does not say of its own accord: a server that went away without a word is noticed in seconds, not after
/// the operating system's quarter of an hour.
fn noticing_a_dead_network(url: &str) -> String {
    let (_, query) = url.split_once('?').unwrap_or((url, ""));
    let mut whole = url.to_owned();
    for (name, value) in [
        ("connect_timeout", "5"),
        ("keepalives_idle", "5"),
        ("keepalives_interval", "2"),
        ("keepalives_count", "3"),
        ("tcp_user_timeout", "10000"),
    ] {
        let named = url::form_urlencoded::parse(query.as_bytes()).any(|(other, _)| other == name);
        if !named {
            whole.push(if whole.contains('?') { '&' } else { '?' });
            whole.extend([name, "=", value]);
        }
    }
    whole
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// To write.
    Write,
    /// To read only.
    Read,
}

/// Opens a SQLite connection. `FULL`: a commit that was answered survives the loss of power (rule 1).
pub(crate) fn sqlite(path: &Path, purpose: Purpose) -> Result<SqliteConnection, Error> {
    let path = path
        .to_str()
        .ok_or_else(|| Error::Refused(format!("the path {} is not UTF-8", path.display())))?;
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute(
        "PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384;",
    )?;
    connection.batch_execute(match purpose {
        Purpose::Read => "PRAGMA query_only = ON;",
        // Pages of 4 KiB: 256 MiB. A thread copies the log (`copying`); if it cannot keep up, the writer does it itself.
        Purpose::Write => "PRAGMA wal_autocheckpoint = 64000;",
    })?;
    Ok(connection)
}

/// Opens a SQLite connection that writes delegations. Which words a column may hold is checked for whoever writes by hand:
/// SQLite builds a table of them for each row, and here the types see to it.
pub(crate) fn sqlite_writer(path: &Path) -> Result<SqliteConnection, Error> {
    let mut connection = sqlite(path, Purpose::Write)?;
    connection.batch_execute("PRAGMA ignore_check_constraints = ON;")?;
    Ok(connection)
}

/// Opens a PostgreSQL connection. What a role or a database sets by default must not change what a commit means.
pub(crate) fn postgres(url: &str) -> Result<PgConnection, Error> {
    let mut connection = PgConnection::establish(&noticing_a_dead_network(url))?;
    connection.batch_execute(
        "SET application_name = 'baton'; SET client_encoding = 'UTF8'; SET TimeZone = 'UTC'; \
         SET client_min_messages = warning; SET statement_timeout = 0; SET lock_timeout = 0; \
         SET idle_in_transaction_session_timeout = 0; \
         SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
         SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off';",
    )?;
    // Errors are told apart by their words (see `error`). Only some roles may choose the language; the others keep theirs.
    if let Err(error) = connection.batch_execute("SET lc_messages = 'C'") {
        tracing::debug!(%error, "PostgreSQL keeps its language for messages");
    }
    Ok(connection)
}

/// A process that is merely busy is not ended in the middle of a transaction.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// However long the lease is, others do not wait longer than this for a lock.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Opens a PostgreSQL connection that writes under a lease of this length. A process that is stopped in the middle of a
/// transaction holds locks that everybody waits for: PostgreSQL ends it long before others may take over.
pub(crate) fn postgres_writer(url: &str, lease: Duration) -> Result<PgConnection, Error> {
    let mut connection = postgres(url)?;
    let idle = (lease / 4).clamp(IDLE_MIN, IDLE_MAX).as_millis();
    // Every statement of a commit finds its rows by a key: a plan for any number of them is always right.
    connection.batch_execute(&format!(
        "SET idle_in_transaction_session_timeout = {idle}; SET plan_cache_mode = force_generic_plan; SET jit = off; \
         SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
         SET enable_mergejoin = off;"
    ))?;
    // A statement that waits for a lock is a whole commit: it must not outlive its client for long. Not every server can.
    let noticing = connection.batch_execute("SET client_connection_check_interval = 100");
    if let Err(error) = noticing {
        tracing::debug!(%error, "the server does not look whether its clients are there");
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_says_of_the_network_stands_and_the_rest_is_added() {
        let whole = noticing_a_dead_network("postgres://h/d?connect_timeout=60");
        assert!(whole.starts_with("postgres://h/d?connect_timeout=60&keepalives_idle=5&"));
        assert_eq!(whole.matches("connect_timeout").count(), 1);
        let whole = noticing_a_dead_network("postgres://h/d");
        assert!(whole.starts_with("postgres://h/d?connect_timeout=5&"));
    }
}
