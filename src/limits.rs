//! What the process asks of the operating system: open files, threads, and the signals to stop.

use std::future::Future;
use std::time::Duration;

use actix::{Arbiter, ArbiterHandle};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// How long a thread for what blocks outlives its work. Each runtime has its own, so idle ones add up.
const IDLE_THREAD: Duration = Duration::from_secs(1);

/// Raises the limit of open files as far as allowed: each call in flight and each listener needs one.
pub fn raise_open_files() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// A runtime of one thread, with at most `blocking` more for what blocks; at the limit that waits.
///
/// # Errors
/// When the system refuses.
pub fn runtime(blocking: usize) -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(blocking)
        .thread_keep_alive(IDLE_THREAD)
        .build()
}

/// A thread for actors, with a [`runtime`].
///
/// # Panics
/// When the system gives no thread.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "it is asked for at the start, and nothing can start without it"
)]
pub fn arbiter(blocking: usize) -> ArbiterHandle {
    let arbiter = Arbiter::try_with_tokio_rt(move || runtime(blocking));
    arbiter.expect("no thread for actors").handle()
}

/// Threads for actors, at least one.
#[derive(Clone, Debug)]
pub struct Arbiters {
    first: ArbiterHandle,
    others: Vec<ArbiterHandle>,
}

impl Arbiters {
    /// Half as many as there are cores: requests, commits and calls need the others. Each with an [`arbiter`]'s threads
    /// for what blocks.
    #[must_use]
    pub fn start(blocking: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            first: arbiter(blocking),
            others: (1..cores / 2).map(|_| arbiter(blocking)).collect(),
        }
    }

    /// The first.
    #[must_use]
    pub const fn first(&self) -> &ArbiterHandle {
        &self.first
    }

    /// One of them, each in its turn.
    #[must_use]
    pub fn at(&self, number: u64) -> &ArbiterHandle {
        let of =
            u64::try_from(self.others.len()).map_or(u64::MAX, |others| others.saturating_add(1));
        let place = number
            .checked_rem(of)
            .and_then(|place| usize::try_from(place).ok());
        let other = place.and_then(|place| self.others.get(place.checked_sub(1)?));
        other.unwrap_or(&self.first)
    }
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
