//! What a scripted agent can do with a request.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::work::LongWork;
use crate::support::http::Received;

/// What the agent does with a message.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers with a message of one text part.
    Answer(String),
    /// Answers with `echo: ` and the text it was sent.
    Echo,
    /// Answers with a message of these parts.
    AnswerParts(Value),
    /// Answers with a message whose part says `type`, not `kind`.
    TypeParts(String),
    /// Answers with a completed task that carries the text in an artifact.
    ArtifactTask(String),
    /// Waits, then does the other.
    Delay(Duration, Box<Behaviour>),
    /// Answers with a JSON-RPC error.
    Error(i64, String),
    /// Answers with this HTTP status and body.
    Status(u16, String),
    /// Answers 503, with the agent's `Retry-After` (see [`FakeAgent::retry_after`](super::FakeAgent::retry_after)).
    Busy,
    /// Answers 202: it took the message into a queue of its own.
    Queued202,
    /// Answers 200 without a body.
    Empty,
    /// Hangs up without reading the request.
    CloseBeforeReading,
    /// Reads the request, then hangs up without a word.
    CloseAfterReading,
    /// Announces a whole answer, sends this many bytes of it, hangs up.
    CutBody(usize),
    /// Answers another request than the one it was sent.
    WrongId,
    /// Answers with a task that is not over (`submitted`, `working`, `input-required`, …).
    NonFinal(String),
    /// Answers with a task of this id and state that says this: in an artifact if it completed, else in its status.
    Task {
        id: String,
        state: String,
        text: String,
    },
    /// Takes the message as a task that outlives the request, see [`LongWork`].
    Work(LongWork),
    /// Answers 200 with these bytes, where `$ID` stands for the id of the request.
    Raw(Vec<u8>),
    /// Sends these bytes in place of an HTTP response, then hangs up.
    RawWire(Vec<u8>),
    /// Never answers.
    Hang,
    /// Works on one message at a time, this long, and turns the others away as [`Behaviour::Busy`] does.
    OneAtATime(Duration),
}

impl Behaviour {
    /// [`Behaviour::Delay`] without the boxing.
    pub(crate) fn after(delay: Duration, then: Self) -> Self {
        Self::Delay(delay, Box::new(then))
    }

    /// What a repeated message gets from an agent that remembers: the answer, also where the first time broke off.
    pub(super) fn repeated(&self) -> Self {
        match self {
            Self::Hang
            | Self::CloseBeforeReading
            | Self::CloseAfterReading
            | Self::CutBody(_)
            | Self::RawWire(_) => Self::Echo,
            whole => whole.clone(),
        }
    }
}

/// A request that the agent received whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The HTTP method and path.
    pub(crate) line: String,
    /// Header names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The bytes of the body.
    pub(crate) raw: Bytes,
    /// The body, `null` if it is not JSON.
    pub(crate) body: Value,
    /// The JSON-RPC method, empty if there is none.
    pub(crate) method: String,
    /// The `messageId`, empty if there is none.
    pub(crate) message_id: String,
    /// The task that it speaks of, empty if there is none: of `tasks/…`, or the one that a message goes on with.
    pub(crate) task_id: String,
}

impl Request {
    /// The first header of that name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text parts of the message, joined.
    pub(crate) fn text(&self) -> String {
        let parts = self.body["params"]["message"]["parts"].as_array();
        let texts = parts
            .into_iter()
            .flatten()
            .filter_map(|part| part["text"].as_str());
        texts.collect()
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(
            self.method.as_str(),
            "message/send" | "message/stream" | "SendMessage" | "SendStreamingMessage"
        )
    }

    pub(crate) fn received(received: Received) -> Self {
        let body: Value = serde_json::from_slice(&received.body).unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            method: text(&body["method"]),
            message_id: text(&body["params"]["message"]["messageId"]),
            task_id: text(named(&body["params"])),
            line: received.line,
            headers: received.headers,
            raw: received.body,
            body,
        }
    }
}

fn named(params: &Value) -> &Value {
    match &params["message"]["taskId"] {
        Value::Null => &params["id"],
        task => task,
    }
}
