//! The answer to what takes long: progress, signs of life, and the result, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use rmcp::model::{ProtocolVersion, RequestId};
use serde_json::Value;
use tokio::sync::mpsc;

use super::tools::Wait;
use super::waiting::Progress;
use super::{Call, reply};

/// How often a quiet stream says that it lives: some clients give up after five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How many events may wait for a client that reads slowly; what there is no room for is not said.
const ROOM: usize = 16;

/// Answers a call that waits event by event. It ends with the result, or when the client goes: what was delegated goes on.
pub(super) fn answer(
    call: Call,
    id: RequestId,
    wait: Wait,
    version: ProtocolVersion,
) -> HttpResponse {
    let (sender, receiver) = mpsc::channel(ROOM);
    actix_web::rt::spawn(async move {
        let mut progress = Progress::seen(call.meta.get_progress_token(), sender.clone());
        let answer = wait.result(&call, &mut progress).await;
        // Whoever has gone finds the result in the inbox.
        drop(sender.send(event(&reply(&id, answer, &version))).await);
    });
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk = match tokio::time::timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(chunk) => chunk?,
            Err(_quiet) => Bytes::from_static(b": ping\n\n"),
        };
        Some((Ok::<_, Infallible>(chunk), receiver))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(chunks))
}

/// A message as an event. JSON has no line breaks but within strings, and none within them.
pub(super) fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}
