//! The requests that a target gets: in 0.3 and in 1.0, over JSON-RPC and over HTTP with JSON (a2a.md §1). Strict: what is
//! written here, the protocol's own types read.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use url::Url;

use super::card::{Delivery, Manner};
use super::parts::{OldPart, Part};
use super::push::PushConfig;
use super::wire::{each, entries, pick, string};
use crate::domain::{Binding, Json, Protocol, RemoteTaskId};

/// What a call says to the target.
#[derive(Clone, Debug)]
pub enum Message {
    /// The whole task. The delegation's id is its `messageId`.
    Task(Arc<str>),
    /// The answer to a question that the target asked about a task of its own.
    Input {
        /// Its own `messageId`, the same on every attempt.
        id: Arc<str>,
        /// The target's name for the task, if it gave one.
        task: Option<RemoteTaskId>,
        /// The answer.
        text: Arc<str>,
    },
    /// A message as its sender wrote it, passed on under its own `messageId`.
    Whole {
        /// An A2A 1.0 `Message` as JSON.
        message: Arc<str>,
        /// The target's name for the task that it goes on with; none for the first message, which begins one.
        task: Option<RemoteTaskId>,
    },
}

impl Message {
    /// The target's task that it goes on with, if that has a name.
    pub(super) const fn task(&self) -> Option<&RemoteTaskId> {
        match self {
            Self::Task(_) => None,
            Self::Input { task, .. } | Self::Whole { task, .. } => task.as_ref(),
        }
    }

    /// Whether it goes on with a task that the target has.
    pub(super) const fn goes_on(&self) -> bool {
        match self {
            Self::Task(_) => false,
            Self::Input { .. } => true,
            Self::Whole { task, .. } => task.is_some(),
        }
    }
}

/// What is asked of a target.
#[derive(Clone, Copy)]
pub(super) enum Operation<'a> {
    /// To take a message of this delegation.
    Send {
        delegation: &'a str,
        message: &'a Message,
        /// Where it may tell of the task that the message begins.
        push: Option<&'a PushConfig>,
    },
    /// To say how a task of its own is.
    Get(&'a RemoteTaskId),
    /// To leave a task of its own.
    Cancel(&'a RemoteTaskId),
}

/// A request as it is to be sent.
pub(super) struct Written<'a> {
    pub(super) url: Cow<'a, str>,
    /// None: it is a GET.
    pub(super) body: Option<Vec<u8>>,
}

/// Writes a request to the agent at `own`. `request_id` is another on every attempt (lesson Q07).
pub(super) fn write<'a>(
    manner: &'a Manner,
    own: &'a str,
    request_id: &str,
    operation: Operation<'_>,
) -> Result<Written<'a>, serde_json::Error> {
    let base = manner.url.as_deref().unwrap_or(own);
    match manner.binding {
        Binding::JsonRpc => Ok(Written {
            url: Cow::Borrowed(base),
            body: Some(json_rpc(manner, request_id, operation)?),
        }),
        Binding::Rest => rest(manner, base, operation),
    }
}

/// The request as a poll-mode target finds it in its inbox: what it would have been sent.
#[must_use]
pub fn request_envelope(delegation_id: &str, message: &Message) -> Json {
    let operation = Operation::Send {
        delegation: delegation_id,
        message,
        push: None,
    };
    // A request of strings can always be written.
    let bytes = json_rpc(&Manner::default(), delegation_id, operation).unwrap_or_default();
    Json::from_text(&String::from_utf8_lossy(&bytes))
}

/// A JSON-RPC envelope.
#[derive(Serialize)]
struct Envelope<'a, P> {
    jsonrpc: &'static str,
    id: &'a str,
    method: &'static str,
    params: P,
}

fn json_rpc(
    manner: &Manner,
    request_id: &str,
    operation: Operation<'_>,
) -> Result<Vec<u8>, serde_json::Error> {
    let streams = manner.delivery == Delivery::Streaming;
    let method = match (operation, manner.version) {
        (Operation::Send { .. }, Protocol::V03) if streams => "message/stream",
        (Operation::Send { .. }, Protocol::V03) => "message/send",
        (Operation::Send { .. }, Protocol::V10) if streams => "SendStreamingMessage",
        (Operation::Send { .. }, Protocol::V10) => "SendMessage",
        (Operation::Get(_), Protocol::V03) => "tasks/get",
        (Operation::Get(_), Protocol::V10) => "GetTask",
        (Operation::Cancel(_), Protocol::V03) => "tasks/cancel",
        (Operation::Cancel(_), Protocol::V10) => "CancelTask",
    };
    let tenant = manner.tenant.as_deref();
    match operation {
        Operation::Send {
            delegation,
            message,
            push,
        } => {
            let sending = Sending::of(manner, delegation, message, push);
            enveloped(request_id, method, sending)
        }
        Operation::Get(task) => {
            let asking = Asking {
                id: &task.0,
                history_length: HISTORY,
                tenant,
            };
            enveloped(request_id, method, asking)
        }
        Operation::Cancel(task) => {
            let id = &task.0;
            enveloped(request_id, method, Cancelling { id, tenant })
        }
    }
}

fn enveloped(
    id: &str,
    method: &'static str,
    params: impl Serialize,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Envelope {
        jsonrpc: "2.0",
        id,
        method,
        params,
    })
}

fn rest<'a>(
    manner: &Manner,
    base: &str,
    operation: Operation<'_>,
) -> Result<Written<'a>, serde_json::Error> {
    let streams = manner.delivery == Delivery::Streaming;
    let tenant = manner.tenant.as_deref();
    let (place, body) = match operation {
        Operation::Send {
            delegation,
            message,
            push,
        } => {
            let verb = if streams { "stream" } else { "send" };
            let sending = Sending::of(manner, delegation, message, push);
            let body = Some(serde_json::to_vec(&sending)?);
            (below(base, &[&format!("message:{verb}")]), body)
        }
        Operation::Get(task) => {
            let mut place = below(base, &["tasks", &task.0]);
            if let Ok(url) = &mut place {
                let mut query = url.query_pairs_mut();
                query.append_pair("historyLength", &HISTORY.to_string());
                query.extend_pairs(tenant.map(|tenant| ("tenant", tenant)));
            }
            (place, None)
        }
        Operation::Cancel(task) => {
            let id = &task.0;
            let body = Some(serde_json::to_vec(&Cancelling { id, tenant })?);
            (below(base, &["tasks", &format!("{id}:cancel")]), body)
        }
    };
    // What is no address the guard will say.
    let url = place.map_or_else(|_| base.to_owned(), String::from);
    Ok(Written {
        url: url.into(),
        body,
    })
}

/// A place below an address.
fn below(base: &str, segments: &[&str]) -> Result<Url, url::ParseError> {
    let mut url = Url::parse(base)?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    Ok(url)
}

/// How much of a task's history is asked for. It is not read, but to some servers a length of 0 means all of it.
const HISTORY: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asking<'a> {
    id: &'a str,
    history_length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

#[derive(Serialize)]
struct Cancelling<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

#[derive(Serialize)]
struct Sending<'a> {
    message: Said<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
}

/// What is asked beside the message, in the words of one version or the other.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Configuration<'a> {
    /// Servers differ in their default, so it is always said (a2a.md §4, 9).
    #[serde(skip_serializing_if = "Option::is_none")]
    blocking: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_immediately: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    push_notification_config: Option<&'a PushConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_push_notification_config: Option<&'a PushConfig>,
}

impl<'a> Configuration<'a> {
    /// None when there is nothing to ask.
    fn of(manner: &Manner, push: Option<&'a PushConfig>) -> Option<Self> {
        let waits = match manner.delivery {
            Delivery::Blocking => Some(true),
            Delivery::NonBlocking => Some(false),
            Delivery::Streaming => None,
        };
        waits.or(push.map(|_| true))?;
        Some(match manner.version {
            Protocol::V03 => Self {
                blocking: waits,
                push_notification_config: push,
                ..Self::default()
            },
            Protocol::V10 => Self {
                return_immediately: waits.map(|waits| !waits),
                task_push_notification_config: push,
                ..Self::default()
            },
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    role: &'static str,
    message_id: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_id: Option<String>,
    parts: Parts<'a>,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Parts<'a> {
    Text([TextPart<'a>; 1]),
    Unchanged(&'a RawValue),
    Old(Vec<OldPart<'a>>),
}

#[derive(Serialize)]
struct TextPart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    text: &'a str,
}

/// The delegation's id beside what the sender put there.
struct Metadata<'a> {
    delegation: &'a str,
    others: Vec<(String, &'a RawValue)>,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DELEGATION: &str = "delegation_id";
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.others.iter().filter(|(key, _)| key != DELEGATION) {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry(DELEGATION, self.delegation)?;
        map.end()
    }
}

impl<'a> Sending<'a> {
    fn of(
        manner: &'a Manner,
        delegation: &'a str,
        message: &'a Message,
        push: Option<&'a PushConfig>,
    ) -> Self {
        let version = manner.version;
        // The task that it goes on with has it already.
        let push = push.filter(|_| manner.push && !message.goes_on());
        let configuration = Configuration::of(manner, push);
        let message = match message {
            Message::Task(text) => Said::text(version, delegation, delegation, None, text),
            Message::Input { id, task, text } => {
                Said::text(version, delegation, id, task.as_ref(), text)
            }
            Message::Whole { message, task } => {
                Said::whole(version, delegation, message, task.as_ref())
            }
        };
        Self {
            message,
            configuration,
            tenant: manner.tenant.as_deref(),
        }
    }
}

impl<'a> Said<'a> {
    fn text(
        version: Protocol,
        delegation: &'a str,
        id: &'a str,
        task: Option<&'a RemoteTaskId>,
        text: &'a str,
    ) -> Self {
        let old = version == Protocol::V03;
        let kind = old.then_some("text");
        Self {
            kind: old.then_some("message"),
            role: if old { "user" } else { "ROLE_USER" },
            message_id: Cow::Borrowed(id),
            task_id: task.map(|task| &*task.0),
            context_id: None,
            parts: Parts::Text([TextPart { kind, text }]),
            metadata: Metadata {
                delegation,
                others: Vec::new(),
            },
            extensions: Vec::new(),
        }
    }

    /// The sender's own message. What it says of tasks are names that the target does not know.
    fn whole(
        version: Protocol,
        delegation: &'a str,
        message: &'a str,
        task: Option<&'a RemoteTaskId>,
    ) -> Self {
        let wanted = ["messageId", "contextId", "parts", "metadata", "extensions"];
        let [id, context, parts, metadata, extensions] = pick(message, wanted).unwrap_or_default();
        // A message that cannot be read is passed on all the same.
        let mut said = Self::text(version, delegation, delegation, task, message);
        if let Some(id) = id.and_then(string) {
            said.message_id = Cow::Owned(id);
        }
        // A target keeps the context that it was given with the first message, or refuses it (A2A §3.4.1).
        said.context_id = context.and_then(string);
        match (parts, version) {
            (Some(parts), Protocol::V10) => said.parts = Parts::Unchanged(parts),
            (Some(parts), Protocol::V03) => {
                let mut old = Vec::new();
                each(parts, |part| old.push(Part::read(part).into()));
                said.parts = Parts::Old(old);
            }
            (None, _) => {}
        }
        said.metadata.others = metadata.map(entries).unwrap_or_default();
        if let Some(extensions) = extensions {
            each(extensions, |uri| said.extensions.extend(string(uri)));
        }
        said
    }
}

#[cfg(test)]
mod tests;
