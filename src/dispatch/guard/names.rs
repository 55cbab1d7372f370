//! Asking the system's resolver, which blocks a thread for as long as a name server is silent.

use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, watch};

/// Names looked up at once, each on a thread of its own; the others wait, as long as they may.
const AT_ONCE: usize = 16;

/// What a name stands for, or why that is unknown.
type Found = Result<Arc<[SocketAddr]>, Arc<str>>;

/// Where it will be told.
type Answer = watch::Receiver<Option<Found>>;

/// Looks names up, each once however many ask at the same time: a burst of calls to one slow name takes one thread.
#[derive(Clone, Debug)]
pub(super) struct Names {
    under_way: Arc<Mutex<HashMap<Box<str>, Answer>>>,
    threads: Arc<Semaphore>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
            threads: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Names {
    /// The addresses of `host`, port 0. Who stops waiting stops nothing.
    pub(super) async fn addresses(&self, host: &str) -> Found {
        let mut answer = self.ask(host);
        let found = answer.wait_for(Option::is_some).await;
        let found = found.ok().and_then(|found| found.clone());
        found.unwrap_or_else(|| Err("the look-up broke off".into()))
    }

    fn ask(&self, host: &str) -> Answer {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = under_way.get(host) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(host.into(), answer.clone());
        let (names, host) = (self.clone(), Box::<str>::from(host));
        tokio::spawn(async move {
            // It is never closed.
            let turn = Arc::clone(&names.threads).acquire_owned().await;
            if names.is_unwanted(&host, &tell) {
                return;
            }
            let begun = thread::Builder::new()
                .name("name lookup".to_owned())
                .spawn({
                    let (names, host) = (names.clone(), host.clone());
                    move || {
                        let found = look_up(&host);
                        drop(turn);
                        names.tell(&host, &tell, found);
                    }
                });
            if let Err(error) = begun {
                tracing::warn!(%error, "no thread for a look-up");
                names.forget(&host);
            }
        });
        answer
    }

    /// Whether everybody stopped waiting meanwhile; then it is as if nobody had asked.
    fn is_unwanted(&self, host: &str, tell: &watch::Sender<Option<Found>>) -> bool {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // One who waits is the map itself.
        let unwanted = tell.receiver_count() <= 1;
        if unwanted {
            under_way.remove(host);
        }
        unwanted
    }

    /// Whoever asks from now on asks anew.
    fn forget(&self, host: &str) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.remove(host);
    }

    fn tell(&self, host: &str, tell: &watch::Sender<Option<Found>>, found: Found) {
        self.forget(host);
        // Nobody may be waiting any more.
        drop(tell.send(Some(found)));
    }
}

fn look_up(host: &str) -> Found {
    let found = (host, 0).to_socket_addrs();
    found
        .map(Iterator::collect)
        .map_err(|error| error.to_string().into())
}
