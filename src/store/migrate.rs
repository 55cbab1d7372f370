//! Bringing a database up to date: one process at a time, each migration with its record in one transaction (R06).

use std::path::Path;
use std::time::Duration;

use diesel::backend::Backend;
use diesel::connection::SimpleConnection as _;
use diesel::migration::{Migration, MigrationSource as _, MigrationVersion};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::Error;
use super::connect::{Purpose, postgres, sqlite};

const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A later version of Baton may have changed what this one would write: it must not begin to.
fn know_all<Db: Backend>(
    connection: &mut impl MigrationHarness<Db>,
    ours: &EmbeddedMigrations,
) -> Result<(), Failure> {
    let ours: Vec<Box<dyn Migration<Db>>> = ours.migrations()?;
    let applied = connection.applied_migrations()?;
    let is_ours =
        |version: &MigrationVersion<'_>| ours.iter().any(|one| one.name().version() == *version);
    match applied.into_iter().find(|version| !is_ours(version)) {
        None => Ok(()),
        Some(version) => Err(format!(
            "the database was changed by a later version of Baton (migration {version}): start that one"
        )
        .into()),
    }
}

fn refused(failure: &Failure) -> Error {
    Error::Refused(format!("a migration failed: {failure}"))
}

/// How often a start looks again while another process changes the file's journal mode, which waits for nobody.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the file, for its owner only, and brings it up to date.
pub(crate) fn migrate_sqlite(path: &Path) -> Result<(), Error> {
    create_file(path)?;
    let mut connection = sqlite(path, Purpose::Write)?;
    let mut tries = 0;
    while let Err(error) = connection.batch_execute("PRAGMA journal_mode = WAL;") {
        tries += 1;
        if tries >= TRIES {
            return Err(error.into());
        }
        std::thread::sleep(PAUSE);
    }
    // All of them in one exclusive transaction: two starts at once run one after the other, and a kill leaves nothing.
    connection
        .exclusive_transaction(|connection| -> Result<(), Failure> {
            know_all(connection, &SQLITE)?;
            connection.run_pending_migrations(SQLITE)?;
            Ok(())
        })
        .map_err(|failure| refused(&failure))
}

fn create_file(path: &Path) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::Unavailable(format!(
            "cannot create {}: {error}",
            path.display()
        ))),
    }
}

/// Brings the database up to date under an advisory lock, which ends with the session whatever happens to it.
pub(crate) fn migrate_postgres(url: &str) -> Result<(), Error> {
    let mut connection = postgres(url)?;
    connection.batch_execute("SELECT pg_advisory_lock(4776218063457);")?;
    know_all(&mut connection, &POSTGRES)
        .and_then(|()| connection.run_pending_migrations(POSTGRES).map(drop))
        .map_err(|failure| refused(&failure))?;
    connection.batch_execute("SELECT pg_advisory_unlock(4776218063457);")?;
    Ok(())
}
