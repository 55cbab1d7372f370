//! Hearing what other nodes commit (`PostgreSQL`'s `LISTEN`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

use super::directory::Directory;
use super::schema::nodes;
use super::telling::{CHANNEL, Heard, heard};
use super::{Error, Lease, connect};

/// Between two looks: Diesel does not say when something has come, only whether it has.
const PAUSE: Duration = Duration::from_millis(10);
/// The same while there is no other node that could say anything: each look costs an idle process as much as all else.
const PAUSE_ALONE: Duration = Duration::from_millis(400);
/// How often the connection shows that it is alive, and whether there are others.
const PROOF: Duration = Duration::from_secs(1);
/// The first wait before a lost connection is opened again; doubles up to [`RECONNECT_CAP`].
const RECONNECT_BASE: Duration = Duration::from_millis(50);
/// The longest such wait.
const RECONNECT_CAP: Duration = Duration::from_secs(1);

/// Goes on hearing until dropped.
#[derive(Debug)]
pub struct Listening(Arc<AtomicBool>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the thread works with.
struct Ear<T> {
    url: String,
    own: Lease,
    directory: Arc<Directory>,
    tell: T,
    over: Arc<AtomicBool>,
}

/// Tells `tell` what other nodes commit, from a thread of its own, once the directory has forgotten what that makes stale.
pub(super) fn listen(
    url: String,
    own: Lease,
    directory: Arc<Directory>,
    tell: impl Fn(Heard) + Send + 'static,
) -> Result<Listening, Error> {
    let over = Arc::new(AtomicBool::new(false));
    let listening = Listening(Arc::clone(&over));
    let ear = Ear {
        url,
        own,
        directory,
        tell,
        over,
    };
    std::thread::Builder::new()
        .name("listening".to_owned())
        .spawn(move || ear.hear())
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(listening)
}

impl<T: Fn(Heard)> Ear<T> {
    fn hear(&self) {
        let mut wait = RECONNECT_BASE;
        while !self.is_over() {
            let heard = self.connect_and_hear();
            self.directory.hears(None);
            match heard {
                Ok(()) => return,
                // It listened for a while, or could not begin to.
                Err((heard, error)) => {
                    tracing::warn!(%error, "what other nodes commit is not heard of for a moment");
                    wait = if heard { RECONNECT_BASE } else { wait };
                }
            }
            std::thread::sleep(wait);
            wait = wait.saturating_mul(2).min(RECONNECT_CAP);
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Until it is over, or the connection breaks; whether it was ever open.
    fn connect_and_hear(&self) -> Result<(), (bool, Error)> {
        let mut connection = begin(&self.url).map_err(|error| (false, error))?;
        // Nobody knows what was told before.
        self.directory.forget_all();
        (self.tell)(Heard {
            all: true,
            ..Heard::default()
        });
        let mut proved: Option<Instant> = None;
        let mut pause = PAUSE;
        while !self.is_over() {
            let asked = Instant::now();
            let is_due = proved.is_none_or(|proved| proved.elapsed() >= PROOF);
            if is_due {
                // Whoever was taken over from commits nothing more.
                let all = nodes::table.filter(nodes::holder.eq(nodes::id)).count();
                let all: i64 = all
                    .get_result(&mut connection)
                    .map_err(|error| (true, error.into()))?;
                pause = if all > 1 { PAUSE } else { PAUSE_ALONE };
            }
            for notification in connection.notifications_iter() {
                let notification = notification.map_err(|error| (true, error.into()))?;
                if let Some((heard, stale)) = heard(&self.own, &notification.payload) {
                    self.directory.heard(&heard, &stale);
                    (self.tell)(heard);
                }
            }
            if is_due {
                proved = Some(asked);
                self.directory.hears(proved);
            }
            std::thread::sleep(pause);
        }
        Ok(())
    }
}

fn begin(url: &str) -> Result<PgConnection, Error> {
    let mut connection = connect::postgres(url)?;
    connection.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    Ok(connection)
}
