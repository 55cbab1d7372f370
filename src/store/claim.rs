//! One process for each SQLite database: two would each take charge of what the other has live.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Error;

/// How long to wait for a process that is just ending.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes the sole right to a database, which lasts as long as the file is open. Blocking, up to [`PATIENCE`].
pub(super) fn claim(database: &Path) -> Result<File, Error> {
    let begun = Instant::now();
    loop {
        if let Some(file) = lock_file(database)? {
            return Ok(file);
        }
        if begun.elapsed() >= PATIENCE {
            return Err(Error::Claimed);
        }
        std::thread::sleep(PAUSE);
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
