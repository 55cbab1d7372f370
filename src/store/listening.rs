//! Hearing what other nodes commit (`PostgreSQL`'s `LISTEN`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::SimpleConnection as _;

use super::telling::{CHANNEL, Heard, heard};
use super::{Error, connect};
use crate::domain::NodeId;

/// Between two looks: Diesel does not say when something has come, only whether it has.
const PAUSE: Duration = Duration::from_millis(10);
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

/// Tells `tell` what other nodes commit, from a thread of its own.
pub(super) fn listen(
    url: String,
    own: NodeId,
    tell: impl Fn(Heard) + Send + 'static,
) -> Result<Listening, Error> {
    let over = Arc::new(AtomicBool::new(false));
    let listening = Listening(Arc::clone(&over));
    let hear = move || {
        let mut wait = RECONNECT_BASE;
        while !over.load(Ordering::Relaxed) {
            match connect_and_hear(&url, own, &tell, &over) {
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
    };
    std::thread::Builder::new()
        .name("listening".to_owned())
        .spawn(hear)
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    Ok(listening)
}

/// Until it is over, or the connection breaks; whether it was ever open.
fn connect_and_hear(
    url: &str,
    own: NodeId,
    tell: &impl Fn(Heard),
    over: &AtomicBool,
) -> Result<(), (bool, Error)> {
    let mut connection = begin(url).map_err(|error| (false, error))?;
    // Nobody knows what was told before.
    tell(Heard {
        all: true,
        ..Heard::default()
    });
    while !over.load(Ordering::Relaxed) {
        for notification in connection.notifications_iter() {
            let notification = notification.map_err(|error| (true, error.into()))?;
            if let Some(heard) = heard(own, &notification.payload) {
                tell(heard);
            }
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn begin(url: &str) -> Result<PgConnection, Error> {
    let mut connection = connect::postgres(url)?;
    connection.batch_execute(&format!("LISTEN {CHANNEL}"))?;
    Ok(connection)
}
