//! Copying SQLite's log into the database beside the writer, which is left only the last few pages: no commit waits for
//! more of it than that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel::{QueryableByName, RunQueryDsl as _, SqliteConnection};

use super::connect::{self, Purpose};
use super::session::Leased;
use super::{Commit, Error, Write, Writer};

/// How many pages of the log are worth copying: 64 MiB. A page that many commits write is copied once for all of them,
/// and each time at the end the writer waits for the disk.
const WORTH_COPYING: i64 = 16_000;
/// How few pages are left to the writer. The last of them only it can copy: while others do, it writes more.
const REST: i64 = 200;
/// How often the writer is run after before it is left more than that.
const ROUNDS: usize = 8;
/// Between two looks at the log.
const PAUSE: Duration = Duration::from_millis(20);

/// A writer whose log is copied by a thread of its own, which ends with it.
pub(super) struct Copied {
    copier: Copier,
    writer: Leased<SqliteConnection>,
}

impl Copied {
    pub(super) fn new(path: &Path, writer: Leased<SqliteConnection>) -> Result<Self, Error> {
        Ok(Self {
            copier: Copier::start(path, WORTH_COPYING)?,
            writer,
        })
    }
}

impl Writer for Copied {
    fn commit_watched(
        &mut self,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Result<Commit, Error> {
        self.copier.copy_rest(&mut self.writer.connection);
        let commit = self.writer.commit_watched(writes, written)?;
        self.copier.look();
        Ok(commit)
    }
}

/// The writer's end of the thread.
struct Copier {
    looks: Option<SyncSender<()>>,
    leaves_rest: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    fn start(path: &Path, worth: i64) -> Result<Self, Error> {
        let (looks, asked) = sync_channel(1);
        let leaves_rest = Arc::new(AtomicBool::new(false));
        let copying = Copying {
            path: path.to_owned(),
            worth,
            leaves_rest: Arc::clone(&leaves_rest),
        };
        let thread = std::thread::Builder::new()
            .name("baton-copying".to_owned())
            .spawn(move || copying.run(&asked))
            .map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Self {
            looks: Some(looks),
            leaves_rest,
            thread: Some(thread),
        })
    }

    /// Copies with the writer's connection what the thread left, if it left anything: then the log begins anew.
    fn copy_rest(&self, connection: &mut SqliteConnection) {
        if self.leaves_rest.swap(false, Ordering::AcqRel) {
            // If this fails, the thread does, too, and tells.
            let _failed = checkpoint(connection, "PASSIVE");
        }
    }

    /// Has the thread look at the log.
    fn look(&self) {
        // It need not be asked twice.
        let _asked_already = self.looks.as_ref().map(|looks| looks.try_send(()));
    }
}

impl Drop for Copier {
    /// The writer's connection is the last to be closed: that copies what is left and removes the log.
    fn drop(&mut self) {
        drop(self.looks.take());
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread.
struct Copying {
    path: PathBuf,
    /// From how many pages on.
    worth: i64,
    leaves_rest: Arc<AtomicBool>,
}

impl Copying {
    fn run(&self, asked: &Receiver<()>) {
        let (mut connection, mut failed) = (None, false);
        while asked.recv().is_ok() {
            let copied = self.copy(&mut connection);
            if let Err(error) = &copied {
                connection = None;
                if !failed {
                    tracing::warn!(%error, "the log cannot be copied into the database, and grows");
                }
            }
            failed = copied.is_err();
            std::thread::sleep(PAUSE);
        }
    }

    fn copy(&self, connection: &mut Option<SqliteConnection>) -> Result<(), Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(connect::sqlite(&self.path, Purpose::Read)?),
        };
        if checkpoint(connection, "NOOP")?.left() < self.worth {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            checkpoint(connection, "PASSIVE")?;
            if checkpoint(connection, "NOOP")?.left() <= REST {
                break;
            }
        }
        self.leaves_rest.store(true, Ordering::Release);
        Ok(())
    }
}

/// The log, in pages.
#[derive(QueryableByName, Debug)]
struct Log {
    #[diesel(sql_type = BigInt, column_name = "log")]
    pages: i64,
    #[diesel(sql_type = BigInt, column_name = "checkpointed")]
    copied: i64,
}

impl Log {
    const fn left(&self) -> i64 {
        self.pages.saturating_sub(self.copied)
    }
}

/// Copies what no reader stands in the way of, without waiting for anybody (`PASSIVE`), or nothing (`NOOP`).
fn checkpoint(connection: &mut SqliteConnection, mode: &str) -> Result<Log, Error> {
    let pragma = format!("PRAGMA wal_checkpoint({mode})");
    Ok(diesel::sql_query(pragma).get_result(connection)?)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use diesel::connection::SimpleConnection as _;

    use super::*;

    #[test]
    fn the_log_begins_anew_while_the_writer_goes_on_and_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("baton.db");
        let mut connection = connect::sqlite(&path, Purpose::Write).unwrap();
        let table = "PRAGMA journal_mode = WAL; CREATE TABLE filled (bytes BLOB)";
        connection.batch_execute(table).unwrap();
        let copier = Copier::start(&path, 500).unwrap();
        let (begun, mut longest) = (Instant::now(), 0);
        loop {
            copier.copy_rest(&mut connection);
            let fill = "INSERT INTO filled VALUES (zeroblob(40000))";
            connection.batch_execute(fill).unwrap();
            copier.look();
            let log = checkpoint(&mut connection, "NOOP").unwrap();
            if log.pages < longest {
                break;
            }
            longest = log.pages;
            assert!(begun.elapsed() < Duration::from_secs(30), "{log:?}");
        }
        assert!(longest >= 500, "{longest}");
        drop(copier);
        drop(connection);
        assert!(!directory.path().join("baton.db-wal").exists());
    }
}
