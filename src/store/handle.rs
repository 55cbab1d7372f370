//! The handle that the rest of Baton holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{ManageConnection, Pool, R2D2Connection};
use diesel::{PgConnection, SqliteConnection};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connect::{self, Purpose, Target};
use super::{Claim, Error, Reader, StoreOptions, Writer, migrate};

/// A database, ready for use. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    target: Target,
    readers: Readers,
    /// One for each connection, given out in the order of asking: the pool itself is not fair, and whoever waits in it
    /// holds a thread.
    turns: Arc<Semaphore>,
    turn_wait: Duration,
}

#[derive(Clone)]
enum Readers {
    Sqlite(Pool<Manager<SqliteConnection>>),
    Postgres(Pool<Manager<PgConnection>>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        let engine = match self.0.target {
            Target::Sqlite(_) => "SQLite",
            Target::Postgres(_) => "PostgreSQL",
        };
        formatter.debug_tuple("Store").field(&engine).finish()
    }
}

impl Store {
    /// Opens the database and brings it up to date. Blocking.
    ///
    /// # Errors
    /// [`Error::Refused`] when the URL cannot be used as it is, [`Error::Unavailable`] when the database is away.
    pub fn open(options: &StoreOptions) -> Result<Self, Error> {
        let target = Target::parse(&options.url)?;
        let size = options.read_connections.max(1);
        let readers = match &target {
            Target::Sqlite(path) => {
                migrate::migrate_sqlite(path)?;
                let manager = Manager {
                    place: path.clone(),
                    open: open_sqlite,
                };
                Readers::Sqlite(pool(manager, size, options.read_wait))
            }
            Target::Postgres(url) => {
                migrate::migrate_postgres(url)?;
                let manager = Manager {
                    place: PathBuf::from(url),
                    open: open_postgres,
                };
                Readers::Postgres(pool(manager, size, options.read_wait))
            }
        };
        Ok(Self(Arc::new(Inner {
            target,
            readers,
            turns: Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(1))),
            turn_wait: options.turn_wait,
        })))
    }

    /// Takes the sole right to the database, so that no other process takes charge of what this one has live. Blocking.
    ///
    /// # Errors
    /// [`Error::Claimed`] when another process has it.
    pub fn claim(&self) -> Result<Claim, Error> {
        Claim::take(&self.0.target)
    }

    /// Opens a connection that writes. Blocking.
    pub fn writer(&self) -> Result<Box<dyn Writer>, Error> {
        Ok(match &self.0.target {
            Target::Sqlite(path) => Box::new(connect::sqlite(path, Purpose::Write)?),
            Target::Postgres(url) => Box::new(connect::postgres(url)?),
        })
    }

    /// Runs `body` with a connection of the read pool, on a thread where it may block.
    ///
    /// # Errors
    /// Those of `body`; [`Error::Unavailable`] when no connection is free in time; [`Error::Refused`] when it panics.
    pub async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        let turn = timeout(inner.turn_wait, Arc::clone(&inner.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let late = "too many reads are waiting".to_owned();
            return Err(Error::Unavailable(late));
        };
        let work = move || {
            let _held_meanwhile = turn;
            inner.read(body)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|failure| Error::Refused(format!("a read did not end: {failure}")))?
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        self.read(|reader| reader.last_position().map(|_position| ()))
            .await
    }
}

impl Inner {
    fn read<T>(&self, body: impl FnOnce(&mut dyn Reader) -> Result<T, Error>) -> Result<T, Error> {
        let late = |error: diesel::r2d2::PoolError| Error::Unavailable(error.to_string());
        match &self.readers {
            Readers::Sqlite(pool) => body(&mut *pool.get().map_err(late)?),
            Readers::Postgres(pool) => body(&mut *pool.get().map_err(late)?),
        }
    }
}

fn open_sqlite(path: &Path) -> Result<SqliteConnection, Error> {
    connect::sqlite(path, Purpose::Read)
}

fn open_postgres(url: &Path) -> Result<PgConnection, Error> {
    connect::postgres(&url.to_string_lossy())
}

/// Opens and checks pooled connections.
#[derive(Clone, Debug)]
struct Manager<C> {
    place: PathBuf,
    open: fn(&Path) -> Result<C, Error>,
}

impl<C: R2D2Connection + Send + 'static> ManageConnection for Manager<C> {
    type Connection = C;
    type Error = Error;

    fn connect(&self) -> Result<C, Error> {
        (self.open)(&self.place)
    }

    fn is_valid(&self, connection: &mut C) -> Result<(), Error> {
        Ok(connection.ping()?)
    }

    fn has_broken(&self, connection: &mut C) -> bool {
        std::thread::panicking() || connection.is_broken()
    }
}

/// Connections are opened when needed and checked when taken, so that a broken one is never handed out.
fn pool<C: R2D2Connection + Send + 'static>(
    manager: Manager<C>,
    size: u32,
    wait: Duration,
) -> Pool<Manager<C>> {
    Pool::builder()
        .max_size(size)
        .min_idle(Some(1))
        .connection_timeout(wait)
        .test_on_check_out(true)
        .build_unchecked(manager)
}
