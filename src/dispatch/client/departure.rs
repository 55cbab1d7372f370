//! Whether the request left: known, because leaving is an event of its own.

use std::future::pending;
use std::io;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use tokio::sync::oneshot;

/// Knows whether the request left.
pub(super) struct Departure {
    signal: oneshot::Receiver<()>,
    seen: bool,
}

impl Departure {
    /// Returns when the request begins to leave; never, if it does not.
    pub(super) async fn wait(&mut self) {
        if (&mut self.signal).await.is_err() {
            pending::<()>().await;
        }
        self.seen = true;
    }

    /// Whether it left. If not, it cannot any more: the two are decided in one step, so that no request slips out
    /// behind the back of a limit that has just been reached.
    pub(super) fn left(mut self) -> bool {
        self.signal.close();
        self.seen || self.signal.try_recv().is_ok()
    }
}

/// A body that tells when it is first read, and that cannot be read once its [`Departure`] is settled.
pub(super) fn departing(bytes: Bytes) -> (Body, Departure) {
    let (leaving, signal) = oneshot::channel();
    let body = Body::wrap_stream(stream::once(async move {
        match leaving.send(()) {
            Ok(()) => Ok(bytes),
            Err(()) => Err(io::Error::other("the call was given up")),
        }
    }));
    let seen = false;
    (body, Departure { signal, seen })
}
