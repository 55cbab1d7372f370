//! Calls that wait: for a delegation to end, for a message to come.

use std::time::Duration;

use bytes::Bytes;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Call, stream};
use crate::domain::{ActivityType, DelegationId, Status};
use crate::events::{Shown, Tail, Told, Topic};
use crate::http::delegation_views::whole_of;
use crate::http::error::ApiError;
use crate::http::inbox::{message, unacknowledged};

/// How often it is said that there is nothing new.
const SAY_SO: Duration = Duration::from_secs(10);
/// When to come back if the service goes down meanwhile.
const BACK_IN: Duration = Duration::from_secs(1);
/// How long a client waits that takes no stream: most give up a quiet connection after a minute.
const PLAINLY: Duration = Duration::from_secs(50);

/// What a client is told while it waits.
pub(super) struct Progress {
    token: Option<ProgressToken>,
    stream: Option<mpsc::Sender<Bytes>>,
    begun: Instant,
    said: u32,
}

impl Progress {
    /// The client hears nothing before the answer.
    pub(super) fn unseen() -> Self {
        Self {
            token: None,
            stream: None,
            begun: Instant::now(),
            said: 0,
        }
    }

    /// The client follows a stream, and hears of progress if it gave a token.
    pub(super) fn seen(token: Option<ProgressToken>, stream: mpsc::Sender<Bytes>) -> Self {
        Self {
            token,
            stream: Some(stream),
            ..Self::unseen()
        }
    }

    /// Until it is no use to wait any more: the client has gone, or gives up.
    async fn over(&self) {
        match &self.stream {
            Some(stream) => stream.closed().await,
            None => tokio::time::sleep_until(self.begun + PLAINLY).await,
        }
    }

    fn say(&mut self, message: &str) {
        let (Some(token), Some(sender)) = (&self.token, &self.stream) else {
            return;
        };
        self.said += 1;
        let param = ProgressNotificationParam::new(token.clone(), f64::from(self.said))
            .with_message(message);
        let notification =
            json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": param});
        // There is no room for one who does not read: the next one says as much.
        drop(sender.try_send(stream::event(&notification)));
    }

    fn say_still(&mut self, status: &str) {
        let seconds = self.begun.elapsed().as_secs();
        self.say(&format!("{status}, after {seconds} s"));
    }
}

/// The whole of a delegation once it has ended, or as it stands when the client waits no longer.
pub(super) async fn ending(
    call: &Call,
    id: &DelegationId,
    progress: &mut Progress,
) -> Result<Value, ApiError> {
    let (state, workspace) = (&call.state, call.member.workspace);
    // The events come before the look, so that no ending falls between the two.
    let mut tail = Tail::follow(&state.store, &state.events, Some(workspace), None).await?;
    loop {
        let view = whole_of(state, workspace, id.clone(), false, false).await?;
        let status = view
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if Status::parse(status).is_some_and(Status::is_terminal) {
            return Ok(view);
        }
        let status = status.to_owned();
        progress.say_still(&status);
        if !next_news(call, id, &mut tail, (progress, &status)).await? {
            return Ok(view);
        }
    }
}

/// Until something happens to a delegation; false when the client does not wait for it.
async fn next_news(
    call: &Call,
    id: &DelegationId,
    tail: &mut Tail,
    (progress, status): (&mut Progress, &str),
) -> Result<bool, ApiError> {
    let id = id.to_string();
    loop {
        tokio::select! {
            () = call.state.stopping.wait() => return Err(ApiError::datastore(BACK_IN)),
            () = progress.over() => return Ok(false),
            told = tail.next() => match told? {
                Told::Event(event) => if let Some(message) = news(&event, &id) {
                    if !message.is_empty() {
                        progress.say(&message);
                    }
                    return Ok(true);
                },
                Told::Lagged => return Ok(true),
            },
            () = tokio::time::sleep(SAY_SO) => progress.say_still(status),
        }
    }
}

/// What an event says of this delegation; none when it is of another.
fn news(event: &Shown, id: &str) -> Option<String> {
    let payload: Value = serde_json::from_str(&event.payload.as_ref()?.0).ok()?;
    if payload.get("delegation_id")?.as_str()? != id {
        return None;
    }
    let mut said = ["message", "question"].into_iter();
    let said = said.find_map(|name| payload.get(name)?.as_str());
    Some(said.unwrap_or_default().to_owned())
}

/// The messages that are not acknowledged, after waiting for a first one.
pub(super) async fn messages(
    call: &Call,
    wait: Duration,
    limit: i64,
    progress: &mut Progress,
) -> Result<Value, ApiError> {
    let (state, workspace) = (&call.state, call.member.workspace);
    // Interest comes before the look, so that no message falls between the two.
    let mut subscription = state.events.subscribe(Topic::Feed, Some(workspace));
    let deadline = Instant::now() + wait;
    loop {
        let found = unacknowledged(state, &call.member, limit).await?;
        let empty = found
            .get("messages")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
        if !empty || Instant::now() >= deadline {
            return Ok(found);
        }
        progress.say_still("no message yet");
        tokio::select! {
            () = message(&mut subscription, ActivityType::A2aReceive) => {}
            () = tokio::time::sleep_until(deadline.min(Instant::now() + SAY_SO)) => {}
            () = state.stopping.wait() => return Ok(found),
            () = progress.over() => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Timestamp};

    #[test]
    fn news_are_of_the_delegation_that_is_waited_for() {
        let event = |payload: Value| Shown {
            position: None,
            name: "DELEGATION_STATUS".into(),
            workspace: None,
            payload: Some(Json::from(&payload)),
            at: Timestamp(0),
        };
        let status = event(json!({"delegation_id": "a", "status": "in_progress"}));
        assert_eq!(news(&status, "a").as_deref(), Some(""));
        assert_eq!(news(&status, "b"), None);
        let said = event(json!({"delegation_id": "a", "message": "half"}));
        assert_eq!(news(&said, "a").as_deref(), Some("half"));
    }
}
