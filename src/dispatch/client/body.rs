//! Taking in an answer's body under limits of size and silence (lessons T02, U02).

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep};

use super::answer::{Body, Framing};
use super::connection::Connection;

/// What arrived of a body.
pub(super) enum Received {
    /// All of it.
    Whole(Bytes),
    /// This much, and why no more.
    Cut(Bytes, String),
    /// More than is allowed.
    TooLarge,
}

/// Reads the body, for as long as each piece comes within `idle`, until `total`, and up to `limit` bytes.
pub(super) async fn receive(
    connection: &mut Connection,
    framing: Framing,
    limit: usize,
    idle: Duration,
    mut total: Pin<&mut Sleep>,
) -> Received {
    let too_large = |length: u64| usize::try_from(length).map_or(true, |length| length > limit);
    // Announced is as good as sent: nothing of it could be used.
    if matches!(framing, Framing::Length(length) if too_large(length)) {
        return Received::TooLarge;
    }
    let mut body = Body::new(framing);
    loop {
        let whole = body.advance(&mut connection.received);
        if too_large(body.size(&connection.received)) {
            return Received::TooLarge;
        }
        let why = match whole {
            Ok(true) => return Received::Whole(body.take(&mut connection.received)),
            Ok(false) => tokio::select! {
                biased;
                read = connection.read() => match read {
                    Ok(0) if body.may_end() => {
                        return Received::Whole(body.take(&mut connection.received));
                    }
                    Ok(0) => "the connection was closed".to_owned(),
                    Ok(_) => continue,
                    Err(error) => error.to_string(),
                },
                () = sleep(idle) => format!("silent for {idle:?}"),
                () = &mut total => "the deadline passed".to_owned(),
            },
            Err(broken) => broken.to_owned(),
        };
        return Received::Cut(body.take(&mut connection.received), why);
    }
}
