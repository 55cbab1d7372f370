//! The handle that the rest of Baton holds.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{ManageConnection, Pool, R2D2Connection};
use diesel::{PgConnection, SqliteConnection};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use super::backends::{postgres, sqlite};
use super::breaker::Breaker;
use super::claim::claim;
use super::connect::{self, Purpose, Target};
use super::copying::Copied;
use super::directory::{Directory, Keeping};
use super::listening::{Listening, listen};
use super::session::Leased;
use super::types::Id;
use super::{Error, Heard, Lease, Reader, StoreOptions, Writer, migrate};
use crate::domain::NodeId;

/// How long a read may take while the database answers others.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// How long somebody waits who has nothing better to do: [`Store::read_patiently`].
const PATIENT_LIMIT: Duration = Duration::from_secs(30);

/// A database, ready for use. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    target: Target,
    readers: Readers,
    /// One for each connection, given out in the order of asking: the pool itself is not fair, and whoever waits in it
    /// holds a thread.
    turns: Arc<Semaphore>,
    budget: Duration,
    breaker: Breaker,
    directory: Arc<Directory>,
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
                Readers::Sqlite(pool(manager, size, options.read_budget))
            }
            Target::Postgres(url) => {
                migrate::migrate_postgres(url)?;
                let manager = Manager {
                    place: PathBuf::from(url),
                    open: open_postgres,
                };
                Readers::Postgres(pool(manager, size, options.read_budget))
            }
        };
        let directory = Directory::new(matches!(target, Target::Sqlite(_)));
        Ok(Self(Arc::new(Inner {
            target,
            readers,
            turns: Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(1))),
            budget: options.read_budget,
            breaker: Breaker::default(),
            directory: Arc::new(directory),
        })))
    }

    /// Makes this process a node, with a lease of this length. With SQLite it takes the sole right to the database, and
    /// with it everything that earlier nodes had. Blocking.
    ///
    /// # Errors
    /// [`Error::Claimed`] when another process has the SQLite database, [`Error::Unavailable`].
    pub fn join(&self, length: Duration) -> Result<Lease, Error> {
        let node = NodeId::mint();
        let claim = match &self.0.target {
            Target::Sqlite(path) => {
                let claim = claim(path)?;
                let mut connection = connect::sqlite(path, Purpose::Write)?;
                sqlite::leases::join(&mut connection, node, length)?;
                sqlite::take_all(&mut connection, Id(node.0))?;
                Some(Arc::new(claim))
            }
            Target::Postgres(url) => {
                postgres::leases::join(&mut connect::postgres(url)?, node, length)?;
                None
            }
        };
        Ok(Lease {
            node,
            length,
            _claim: claim,
            progress: Arc::default(),
            broken: Arc::default(),
        })
    }

    /// How many connections may write at once.
    #[must_use]
    pub fn writers(&self) -> usize {
        match self.0.target {
            Target::Sqlite(_) => 1,
            Target::Postgres(_) => 2,
        }
    }

    /// Opens a connection that writes under a lease. Blocking.
    pub fn writer(&self, lease: &Lease) -> Result<Box<dyn Writer>, Error> {
        Ok(match &self.0.target {
            Target::Sqlite(path) => {
                let connection = connect::sqlite_writer(path)?;
                self.keeping(Copied::new(path, Leased::new(connection, lease))?, lease)
            }
            Target::Postgres(url) => {
                let connection = connect::postgres_writer(url, lease.length)?;
                self.keeping(Leased::new(connection, lease), lease)
            }
        })
    }

    fn keeping(&self, writer: impl Writer + 'static, lease: &Lease) -> Box<dyn Writer> {
        let directory = Arc::clone(&self.0.directory);
        Box::new(Keeping::new(writer, lease.clone(), directory))
    }

    /// Tells `tell` what other nodes commit, until the answer is dropped, and remembers what is read meanwhile. None with
    /// SQLite, where there are no others.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when there is no thread for it.
    pub fn listen(
        &self,
        lease: &Lease,
        tell: impl Fn(Heard) + Send + 'static,
    ) -> Result<Option<Listening>, Error> {
        match &self.0.target {
            Target::Sqlite(_) => Ok(None),
            Target::Postgres(url) => {
                let directory = Arc::clone(&self.0.directory);
                listen(url.clone(), lease.clone(), directory, tell).map(Some)
            }
        }
    }

    /// Runs `body` with a connection of the read pool, on a thread where it may block. While the database is known to
    /// be away it is refused at once, but for one at a time.
    ///
    /// # Errors
    /// Those of `body`; [`Error::Unavailable`] when the database has answered nobody for [`StoreOptions::read_budget`],
    /// or this one not for 5 s; [`Error::Refused`] when `body` panics.
    pub async fn read<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let away = || Error::Unavailable("it does not answer".to_owned());
        let breaker = &self.0.breaker;
        let pass = breaker.pass().ok_or_else(away)?;
        let end = Instant::now() + READ_LIMIT;
        let turn = self.while_it_answers(end, self.turn()).await;
        let turn = turn.ok_or_else(|| Error::Unavailable("too many reads wait".to_owned()))??;
        if breaker.is_away() && !pass.finds_out() {
            return Err(away());
        }
        let Some(answer) = self.while_it_answers(end, self.run(turn, body)).await else {
            breaker.note(false);
            return Err(Error::Unavailable("it does not answer in time".to_owned()));
        };
        answer
    }

    /// [`Store::read`] for those that no request waits for: it is always let through, and may take its time.
    pub async fn read_patiently<T: Send + 'static>(
        &self,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let read = async { self.run(self.turn().await?, body).await };
        let late = |_elapsed| Error::Unavailable("it does not answer in time".to_owned());
        timeout(PATIENT_LIMIT, read).await.map_err(late)?
    }

    /// Waits as long as the database answers anybody: that many ask at once is no sign that it is away.
    async fn while_it_answers<T>(&self, end: Instant, work: impl Future<Output = T>) -> Option<T> {
        let asked = Instant::now();
        let mut work = pin!(work);
        let mut until = asked + self.0.budget;
        loop {
            if let Ok(done) = timeout_at(until, &mut work).await {
                return Some(done);
            }
            let later = (self.0.breaker.last_sign(asked) + self.0.budget).min(end);
            if later <= until {
                return None;
            }
            until = later;
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Error> {
        let turns = Arc::clone(&self.0.turns);
        let closed = |closed: AcquireError| Error::Unavailable(closed.to_string());
        turns.acquire_owned().await.map_err(closed)
    }

    /// It cannot be called off: it goes on when nobody waits any more, and keeps its turn.
    async fn run<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        body: impl FnOnce(&mut dyn Reader) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.0);
        let work = tokio::task::spawn_blocking(move || {
            let _held_meanwhile = turn;
            let answer = inner.read(body);
            let answers = !answer.as_ref().is_err_and(Error::is_unavailable);
            inner.breaker.note(answers);
            answer
        });
        work.await
            .map_err(|failure| Error::Refused(format!("a read did not end: {failure}")))?
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }

    /// Whether the database is known not to answer.
    pub(super) fn is_away(&self) -> bool {
        self.0.breaker.is_away()
    }

    /// Notes that a commit did not end: those who read need not wait to find out the same.
    pub(crate) fn seems_away(&self) {
        self.0.breaker.note(false);
    }

    /// Notes that a commit succeeded.
    pub(crate) fn answers(&self) {
        self.0.breaker.note(true);
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
