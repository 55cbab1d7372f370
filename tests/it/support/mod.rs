//! The kit: start a server on a database, script agents, speak its API, follow its inbox.
//!
//! A case is an `async fn(database: Database)` named in [`on_both_databases`](crate::on_both_databases); it runs once on
//! `SQLite` and once on `PostgreSQL`. Nothing here sleeps for a guessed time: waiting is for an event, or polls a
//! condition up to a deadline ([`eventually`]).

pub(crate) mod agent;
pub(crate) mod books;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod history;
pub(crate) mod hook;
mod http;
pub(crate) mod poller;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod replies;
pub(crate) mod script;
pub(crate) mod server;

use std::time::{Duration, Instant};

/// How long anything that must happen may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks `probe` every 10 ms until it answers `Some`; panics, naming `what`, after [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe).await
}

/// [`eventually`] with a deadline of one's own.
pub(crate) async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How long one case may run, unless it says so itself.
pub(crate) const CASE_LIMIT: Duration = Duration::from_mins(3);

/// A number that an environment variable may set, for the sizes of long runs.
pub(crate) fn sized(variable: &str, default: u64) -> u64 {
    let Ok(value) = std::env::var(variable) else {
        return default;
    };
    let number = value.parse();
    number.unwrap_or_else(|_error| panic!("{variable} is {value:?}, but must be a number"))
}

/// Runs a case on a database, if there is one, with an end to it.
pub(crate) async fn run_case<F>(
    database: Option<database::Database>,
    limit: Duration,
    case: impl FnOnce(database::Database) -> F,
) where
    F: Future<Output = ()>,
{
    let Some(database) = database else {
        println!("SKIPPED: BATON_TEST_SKIP_POSTGRES=1");
        return;
    };
    tokio::time::timeout(limit, case(database))
        .await
        .unwrap_or_else(|_elapsed| panic!("the case did not end within {limit:?}"));
}

/// Makes `name::sqlite` and `name::postgres` of each `async fn name(database: Database)`, within a limit or the usual one.
#[macro_export]
macro_rules! on_both_databases {
    (within $limit:expr; $($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                let database = $crate::support::database::Database::sqlite();
                $crate::support::run_case(Some(database), $limit, super::$name).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let database = $crate::support::database::Database::postgres();
                $crate::support::run_case(database, $limit, super::$name).await;
            }
        }
    )+ };
    ($($name:ident),+ $(,)?) => {
        $crate::on_both_databases!(within $crate::support::CASE_LIMIT; $($name),+);
    };
}

/// Makes `name::postgres` of each `async fn name(database: Database)`, for what there is only there.
#[macro_export]
macro_rules! on_postgres {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                let database = $crate::support::database::Database::postgres();
                $crate::support::run_case(database, $crate::support::CASE_LIMIT, super::$name).await;
            }
        }
    )+ };
}
