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

/// How many pages of the log are worth copying: 32 MiB. A page that many commits write is copied once for all of them.
const WORTH_COPYING: i64 = 8000;
/// How few of them the writer may copy. Only it can: while others do, it writes more.
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
            copier: Copier::start(path)?,
            writer,
        })
    }
}

impl Writer for Copied {
    fn commit_watched(&mut self, writes: &[Write], written: &dyn Fn()) -> Result<Commit, Error> {
        if self.copier.leaves_rest.swap(false, Ordering::AcqRel) {
            // With nothing left to copy, the log begins anew. If that fails, the thread tells.
            let _failed = checkpoint(&mut self.writer.connection, "PASSIVE");
        }
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
    fn start(path: &Path) -> Result<Self, Error> {
        let (looks, asked) = sync_channel(1);
        let leaves_rest = Arc::new(AtomicBool::new(false));
        let copying = Copying {
            path: path.to_owned(),
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
        if checkpoint(connection, "NOOP")?.left() < WORTH_COPYING {
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
