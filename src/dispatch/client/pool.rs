//! Connections that are kept for the next call to the same origin.
//!
//! A connection that the agent closes while a request is on its way costs a delegation its outcome: nobody can say
//! whether the request was taken (rule 6). So a connection is kept only where the agent has shown that it keeps its end
//! for longer than Baton does. The first one to an origin stays on trial: it is not used again, and if it is open and
//! quiet after [`TRIAL`], those that follow are kept for [`IDLE`], which is half of that. One that is found closed puts
//! an end to it until [`FORGET`] has passed, one that breaks under a request until [`DISTRUST`] has. Each is asked about
//! before it is used; and none outlives [`AGE`], so that an address that was checked when it was dialled is soon checked
//! again, and an agent that serves one connection at a time comes to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::origin::Origin;

/// How long an agent must have kept a connection that nothing happened on.
const TRIAL: Duration = Duration::from_secs(1);
/// How long a connection is kept.
const IDLE: Duration = Duration::from_millis(500);
/// How long a connection is used.
const AGE: Duration = Duration::from_secs(10);
/// How long an origin is remembered that nobody called.
const FORGET: Duration = Duration::from_mins(1);
/// How long no connection is kept to an origin where one broke under a request.
const DISTRUST: Duration = Duration::from_hours(1);
/// How often is looked for those whose time is over.
const LOOK: Duration = Duration::from_millis(250);
/// Most connections kept for one origin on one thread; at the limit the next is closed.
const KEPT_EACH: usize = 32;
/// Most connections kept in all; at the limit the next is closed.
const KEPT: usize = 256;
/// Most origins remembered; nothing is kept for others.
const ORIGINS: usize = 1024;

/// Kept connections. Each stays with the runtime that watches it.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    origins: HashMap<(Id, Origin), Habit>,
    /// Whether a task looks for those whose time is over.
    swept: bool,
}

/// What an origin does with a connection that nothing happens on.
enum Habit {
    /// To be seen.
    OnTrial(Parked),
    /// It keeps it.
    Keeps { parked: Vec<Parked>, used: Instant },
    /// It closes it.
    Closes { until: Instant },
}

struct Parked {
    connection: Connection,
    at: Instant,
}

impl Pool {
    /// A connection that is open and quiet, and now the caller's.
    pub(super) fn take(&self, origin: &Origin) -> Option<Connection> {
        let key = (Handle::current().id(), origin.clone());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let habit = kept.origins.get_mut(&key)?;
        let Habit::Keeps { parked, used } = habit else {
            return None;
        };
        let now = Instant::now();
        *used = now;
        parked.retain(|parked| !parked.is_over(now));
        let mut connection = parked.pop()?.connection;
        if connection.is_quiet() {
            return Some(connection);
        }
        *habit = Habit::closes(now);
        None
    }

    /// Keeps a connection on which a call came to its end, if that is of use.
    pub(super) fn park(&self, origin: Origin, mut connection: Connection) {
        connection.rest();
        let at = Instant::now();
        let parked = Parked { connection, at };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (origins, full) = (kept.origins.len(), kept.count() >= KEPT);
        let key = (Handle::current().id(), origin);
        match kept.origins.get_mut(&key) {
            None if origins < ORIGINS && !full => {
                kept.origins.insert(key, Habit::OnTrial(parked));
            }
            Some(Habit::Keeps { parked: others, .. })
                if others.len() < KEPT_EACH && !full && !parked.is_over(at) =>
            {
                others.push(parked);
            }
            None | Some(_) => {}
        }
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(self.clone().sweep());
        }
    }

    /// A kept connection broke under a request: that must not happen again.
    pub(super) fn broke(&self, origin: &Origin) {
        let until = Instant::now() + DISTRUST;
        let key = (Handle::current().id(), origin.clone());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(habit) = kept.origins.get_mut(&key) {
            *habit = Habit::Closes { until };
        }
    }

    /// As if a trial had gone well.
    #[cfg(test)]
    pub(super) fn trust(&self, origin: Origin) {
        let mut kept = self.0.lock().unwrap();
        let (parked, used) = (Vec::new(), Instant::now());
        let habit = Habit::Keeps { parked, used };
        kept.origins.insert((Handle::current().id(), origin), habit);
    }

    /// Closes those whose time is over, as long as there is anything.
    async fn sweep(self) {
        loop {
            sleep(LOOK).await;
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            kept.origins.retain(|_, habit| habit.look(now));
            if kept.origins.is_empty() {
                kept.swept = false;
                return;
            }
        }
    }
}

impl Kept {
    fn count(&self) -> usize {
        let counts = self.origins.values().map(|habit| match habit {
            Habit::OnTrial(_) => 1,
            Habit::Keeps { parked, .. } => parked.len(),
            Habit::Closes { .. } => 0,
        });
        counts.sum()
    }
}

impl Habit {
    fn closes(now: Instant) -> Self {
        let until = now + FORGET;
        Self::Closes { until }
    }

    /// Does what is due; whether it is worth remembering.
    fn look(&mut self, now: Instant) -> bool {
        match self {
            Self::OnTrial(parked) => {
                let quiet = parked.connection.is_quiet();
                if !quiet {
                    *self = Self::closes(now);
                } else if now.duration_since(parked.at) >= TRIAL {
                    let (parked, used) = (Vec::new(), now);
                    *self = Self::Keeps { parked, used };
                }
                true
            }
            Self::Keeps { parked, used } => {
                parked.retain(|parked| !parked.is_over(now));
                now.duration_since(*used) < FORGET
            }
            Self::Closes { until } => now < *until,
        }
    }
}

impl Parked {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= IDLE || now.duration_since(self.connection.since) >= AGE
    }
}
