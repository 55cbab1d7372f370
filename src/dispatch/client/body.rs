//! Taking in an answer's body under limits of size and silence (lessons T02, U02).

use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::Response;
use tokio::time::{Sleep, sleep};

use super::stop::chain;

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
    response: &mut Response,
    limit: usize,
    idle: Duration,
    mut total: Pin<&mut Sleep>,
) -> Received {
    let fits = |length: u64| usize::try_from(length).is_ok_and(|length| length <= limit);
    // Announced is as good as sent: nothing of it could be used.
    if response
        .content_length()
        .is_some_and(|length| !fits(length))
    {
        return Received::TooLarge;
    }
    let mut received = BytesMut::new();
    loop {
        let piece = tokio::select! {
            biased;
            piece = response.chunk() => piece.map_err(|error| chain(&error)),
            () = sleep(idle) => Err(format!("silent for {idle:?}")),
            () = &mut total => Err("the deadline passed".to_owned()),
        };
        match piece {
            Ok(None) => return Received::Whole(received.freeze()),
            Ok(Some(piece)) if received.len().saturating_add(piece.len()) > limit => {
                return Received::TooLarge;
            }
            Ok(Some(piece)) => received.extend_from_slice(&piece),
            Err(why) => return Received::Cut(received.freeze(), why),
        }
    }
}
