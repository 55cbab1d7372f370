//! A task as it goes on, from the recorded events of its caller (A2A §3.1.2, §3.1.6).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::call::{Call, payload_about};
use super::operations::rests;
use super::problem::{Kind, Problem, Trouble};
use super::task::{Extent, Seen, is_true, state, told_status};
use crate::domain::{EventName, Position, Status};
use crate::events::{Shown, Tail, Told};
use crate::http::extract::Vigil;

/// How often a quiet stream says that it lives: some clients give up after five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(4);
/// How often it is looked whether a stream's credential still holds.
const VIGIL: Duration = Duration::from_secs(20);

/// One answer of a stream, in the form of 1.0.
pub(super) struct Frame {
    pub(super) response: Value,
    /// Where the event is that it comes from.
    position: Option<Position>,
    /// Nothing follows it.
    pub(super) is_last: bool,
}

/// A task that is followed.
pub(super) struct Following {
    call: Call,
    id: String,
    context: String,
    tail: Tail,
    ready: VecDeque<Frame>,
    /// What was made up to here is in the task that the stream began with.
    known: i64,
    /// The state that was told last.
    told: &'static str,
    /// What was taken from the tail and is not heard yet: whoever gives up waiting for what it means loses nothing.
    pending: Option<Shown>,
    /// Whether the stream ends when the task waits for the client.
    ends_at_rest: bool,
    over: bool,
}

impl Following {
    /// Follows a task, which comes first as it stands.
    pub(super) async fn of(
        call: Call,
        id: String,
        tail: Tail,
        extent: Extent,
    ) -> Result<Self, Trouble> {
        let seen = call.seen(&id).await?;
        // What was sent is in memory no more.
        call.entered.take();
        let over = rests(seen.status());
        let first = Frame {
            response: json!({"task": seen.task(extent)}),
            position: Some(tail.told()),
            is_last: over,
        };
        Ok(Self {
            call,
            id: seen.id(),
            context: seen.context(),
            tail,
            ready: VecDeque::from([first]),
            known: seen.known_up_to(),
            told: state(seen.status(), None),
            pending: None,
            ends_at_rest: true,
            over,
        })
    }

    /// For one who subscribes: it stays while the task waits for somebody, and refuses one that has ended.
    pub(super) fn of_a_live_task(mut self) -> Result<Self, Problem> {
        if self.over && self.told != state(Status::InputRequired, None) {
            let message = format!("task {} has ended; get it instead", self.id);
            return Err(Problem::new(Kind::UnsupportedOperation, message));
        }
        self.over = false;
        self.ends_at_rest = false;
        if let Some(first) = self.ready.front_mut() {
            first.is_last = false;
        }
        Ok(self)
    }

    /// The next answer; none when nothing more comes. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Trouble> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some(frame));
            }
            if self.over {
                return Ok(None);
            }
            if let Some(event) = self.pending.clone() {
                self.hear(&event).await?;
                self.pending = None;
                continue;
            }
            tokio::select! {
                () = self.call.state.stopping.wait() => return Ok(None),
                told = self.tail.next() => if let Told::Event(event) = told? {
                    self.pending = Some(event);
                },
            }
        }
    }

    async fn hear(&mut self, event: &Shown) -> Result<(), Trouble> {
        let payload = event.payload.as_ref().map_or("", |json| &json.0);
        let Some(payload) = payload_about(payload, &self.id) else {
            return Ok(());
        };
        match EventName::parse(&event.name) {
            Some(EventName::DelegationStatus) => self.hear_status(event, &payload),
            Some(EventName::TaskArtifact) => self.hear_piece(event, &payload),
            Some(
                EventName::DelegationComplete
                | EventName::DelegationFailed
                | EventName::DelegationCancelled,
            ) => {
                let seen = self.call.seen(&self.id).await?;
                self.hear_end(event, &seen);
            }
            _ => {}
        }
        Ok(())
    }

    fn hear_status(&mut self, event: &Shown, payload: &Value) {
        let names = (&*self.id, &*self.context);
        let place = event.position.unwrap_or(Position(0));
        let Some((shown, says_more)) = told_status(payload, names, place, event.at) else {
            return;
        };
        let status = payload
            .get("status")
            .and_then(Value::as_str)
            .and_then(Status::parse);
        let Some(status) = status else { return };
        let word = state(status, None);
        let goes_back = word == state(Status::Pending, None) && word != self.told;
        if goes_back || (word == self.told && !says_more) {
            return;
        }
        self.told = word;
        self.over = self.ends_at_rest && rests(status);
        self.show_status(event, &shown);
    }

    fn show_status(&mut self, event: &Shown, status: &Value) {
        let update = json!({"taskId": self.id, "contextId": self.context, "status": status});
        self.show(event, json!({"statusUpdate": update}), self.over);
    }

    fn hear_piece(&mut self, event: &Shown, payload: &Value) {
        if event.position.is_some_and(|place| place.0 <= self.known) {
            return;
        }
        let artifact = payload.get("artifact").cloned().unwrap_or_default();
        let (append, last) = (is_true(payload, "append"), is_true(payload, "last_chunk"));
        self.show_artifact(event, &artifact, append, last);
    }

    fn show_artifact(&mut self, event: &Shown, artifact: &Value, append: bool, last: bool) {
        let update = json!({
            "taskId": self.id, "contextId": self.context, "artifact": artifact, "append": append, "lastChunk": last,
        });
        self.show(event, json!({"artifactUpdate": update}), false);
    }

    fn hear_end(&mut self, event: &Shown, seen: &Seen) {
        // Of an answer that was told piece by piece, what differs from the pieces.
        let told = seen.made_so_far();
        for artifact in seen.artifacts() {
            if !told.iter().any(|other| is_same(other, &artifact)) {
                self.show_artifact(event, &artifact, false, true);
            }
        }
        self.over = true;
        let whole = seen.task(Extent::whole(Some(0)));
        let status = whole.get("status").cloned().unwrap_or_default();
        self.show_status(event, &status);
    }

    fn show(&mut self, event: &Shown, response: Value, is_last: bool) {
        self.ready.push_back(Frame {
            response,
            position: event.position,
            is_last,
        });
    }
}

/// Whether two artifacts are the same, as far as anybody sees.
fn is_same(one: &Value, other: &Value) -> bool {
    ["artifactId", "parts"]
        .iter()
        .all(|name| one.get(name) == other.get(name))
}

/// Answers with a stream, each frame as `written` puts it.
pub(super) fn answer(
    following: Following,
    vigil: Vigil,
    written: impl Fn(&Frame) -> Value + 'static,
) -> HttpResponse {
    let source = Source {
        following,
        vigil,
        looked: Instant::now(),
        written: Box::new(written),
    };
    let chunks = stream::unfold(source, |mut source| async move {
        let chunk = source.next().await?;
        Some((Ok::<_, Infallible>(chunk), source))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(chunks))
}

struct Source {
    following: Following,
    vigil: Vigil,
    looked: Instant,
    written: Box<dyn Fn(&Frame) -> Value>,
}

impl Source {
    /// The next piece; none when nothing more comes, the credential is void, or the store is away: a client may subscribe
    /// again.
    async fn next(&mut self) -> Option<Bytes> {
        if self.looked.elapsed() >= VIGIL {
            if !self.vigil.holds().await {
                return None;
            }
            self.looked = Instant::now();
        }
        match timeout(KEEP_ALIVE, self.following.next()).await {
            Err(_quiet) => Some(Bytes::from_static(b": ping\n\n")),
            Ok(Ok(frame)) => frame.map(|frame| framed(frame.position, &(self.written)(&frame))),
            Ok(Err(_away)) => None,
        }
    }
}

/// A server-sent event. JSON has no line breaks but within strings, and none within them.
fn framed(position: Option<Position>, response: &Value) -> Bytes {
    let id = position.map(|place| format!("id: {place}\n"));
    format!("{}data: {response}\n\n", id.unwrap_or_default()).into()
}
