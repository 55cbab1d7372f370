//! Whether the request left: known, because leaving is an event of its own.

use std::future::pending;
use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
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
pub(super) fn departing(bytes: Bytes) -> (impl Stream<Item = io::Result<Bytes>>, Departure) {
    let (leaving, signal) = oneshot::channel();
    let body = stream::once(async move {
        match leaving.send(()) {
            Ok(()) => Ok(bytes),
            Err(()) => Err(io::Error::other("the call was given up")),
        }
    });
    let seen = false;
    (body, Departure { signal, seen })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_leaves_before_its_departure_is_settled_or_never() {
        let (body, departure) = departing(Bytes::from_static(b"task"));
        assert!(!departure.left());
        assert!(
            Box::pin(body)
                .next()
                .await
                .is_some_and(|read| read.is_err())
        );

        let (body, departure) = departing(Bytes::from_static(b"task"));
        let read = Box::pin(body).next().await.unwrap().unwrap();
        assert_eq!(read, "task");
        assert!(departure.left());

        let (body, mut departure) = departing(Bytes::from_static(b"task"));
        let mut body = Box::pin(body);
        let (read, ()) = tokio::join!(body.next(), departure.wait());
        assert!(read.is_some() && departure.left());
        assert!(body.next().await.is_none(), "it can be read once");
    }
}
