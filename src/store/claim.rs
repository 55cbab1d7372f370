//! One process for each database: two would each take charge of what the other has live.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Error;
use super::connect::{self, Target};

/// PostgreSQL's advisory lock that a process holds as long as it runs. Any number, and always the same.
const LOCK: i64 = 0x6261_746f_6e00_0002;
/// How long to wait for a process that is just ending: its last connection may outlive it by a moment.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The sole right to a database, until dropped.
#[derive(Debug)]
pub struct Claim {
    _held: Held,
}

#[expect(dead_code, reason = "held for what dropping it does")]
enum Held {
    File(File),
    Session(Box<PgConnection>),
}

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::File(_) => "File",
            Self::Session(_) => "Session",
        })
    }
}

diesel::define_sql_function! {
    /// Takes a session's lock if nobody holds it.
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
}

impl Claim {
    /// Takes it. Blocking, up to [`PATIENCE`].
    pub(super) fn take(target: &Target) -> Result<Self, Error> {
        let begun = Instant::now();
        loop {
            let held = match target {
                Target::Sqlite(path) => lock_file(path)?.map(Held::File),
                Target::Postgres(url) => lock_session(url)?.map(Held::Session),
            };
            if let Some(held) = held {
                return Ok(Self { _held: held });
            }
            if begun.elapsed() >= PATIENCE {
                return Err(Error::Claimed);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// The lock is on a file beside the database: SQLite's own locks live and die with any descriptor of the database.
fn lock_file(database: &Path) -> Result<Option<File>, Error> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let unusable = |error| Error::Unavailable(format!("cannot lock {}: {error}", path.display()));
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn lock_session(url: &str) -> Result<Option<Box<PgConnection>>, Error> {
    let mut session = connect::postgres(url)?;
    let taken = diesel::select(pg_try_advisory_lock(LOCK)).get_result(&mut session)?;
    Ok(Some(Box::new(session)).filter(|_| taken))
}
