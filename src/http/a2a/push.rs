//! Push notifications of a task (A2A §3.1.7 to §3.1.10): receivers of the outbox, told what a stream tells.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::forms;
use super::problem::{Problem, Trouble};
use super::task::{Extent, Seen, is_true, told_status};
use crate::domain::{DelegationKey, EventName, Position, Receiver};
use crate::events::Shown;
use crate::http::error::ApiError;
use crate::outbox::{Error, NewReceiver};
use crate::store::{self, Store};

/// What a first configuration is called that came without a name from a client of 0.3.
const DEFAULT: &str = "default";

/// What may be asked of the configurations of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Push {
    Create,
    Get,
    List,
    Delete,
}

/// Does it; `old`: in the form of 0.3.
pub(super) async fn run(
    call: &Call,
    asked: Push,
    params: &Value,
    old: bool,
) -> Result<Value, Trouble> {
    let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default();
    let task = text("taskId");
    let key = call.key_of(task);
    call.seen(task).await?;
    let outbox = &call.state.outbox;
    let written = |receiver: &Receiver| {
        let config = config(task, receiver);
        if old {
            forms::old_push_config(&config)
        } else {
            config
        }
    };
    let (caller, delegation) = (key.caller, Some(key.id));
    Ok(match asked {
        Push::Create => {
            let mut new = NewReceiver {
                old_form: old,
                ..wanted("", params)?
            };
            let listed = outbox.list(caller, delegation.clone()).await;
            let listed = listed.map_err(ApiError::from)?;
            // What clients of 0.3 ask for later that named nothing; a second one makes no room for itself.
            if old && new.config.is_none() && listed.iter().all(|one| &*one.config != DEFAULT) {
                new.config = Some(DEFAULT.to_owned());
            }
            let made = outbox.create(caller, delegation, new).await;
            written(&made.map_err(|error| refused("", error))?)
        }
        Push::Get => {
            // Clients of 0.3 may ask for the only one.
            let all = outbox
                .list(caller, delegation)
                .await
                .map_err(ApiError::from)?;
            let (id, first) = (text("id"), all.first().filter(|_| old));
            let found = all.iter().find(|one| &*one.config == id);
            let found = found.or(first.filter(|_| id.is_empty()));
            written(found.ok_or_else(|| no_such_config(id))?)
        }
        Push::List => {
            let all = outbox
                .list(caller, delegation)
                .await
                .map_err(ApiError::from)?;
            let all: Vec<Value> = all.iter().map(written).collect();
            if old {
                all.into()
            } else {
                json!({"configs": all, "nextPageToken": ""})
            }
        }
        Push::Delete => {
            let deleted = outbox.delete(caller, delegation, text("id")).await;
            deleted.map_err(ApiError::from)?;
            if old { Value::Null } else { json!({}) }
        }
    })
}

fn no_such_config(id: &str) -> Problem {
    Problem::no_such_task(&format!("push notification config {id}"))
}

/// The receiver that a configuration asks for; `path` is where it stands, for whoever has to mend it.
fn wanted(path: &str, config: &Value) -> Result<NewReceiver, Problem> {
    let text = |name: &str| match config.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::of(format!("{path}{name}"), "must be a string")),
    };
    let missing = || Problem::of(format!("{path}url"), "is required and must be a string");
    let shown = config
        .get("authentication")
        .filter(|shown| !shown.is_null());
    let part = |name: &str| {
        let part = shown.and_then(|shown| shown.get(name));
        part.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let scheme = part("scheme");
    if shown.is_some() && scheme.is_empty() {
        let field = format!("{path}authentication.scheme");
        return Err(Problem::of(field, "is required and must be a string"));
    }
    Ok(NewReceiver {
        config: text("id")?,
        url: text("url")?.ok_or_else(missing)?,
        token: text("token")?,
        authentication: shown.map(|_| (scheme, part("credentials"))),
        ..NewReceiver::default()
    })
}

/// What is wrong with a receiver, by the parameter that says it.
fn refused(path: &str, error: Error) -> Trouble {
    match error {
        Error::Url(blocked) => {
            Problem::of(format!("{path}url"), format!("is refused: {blocked}")).into()
        }
        Error::Unfit(name) => Problem::of(
            format!("{path}{name}"),
            "cannot be sent in a header, or is too long",
        )
        .into(),
        Error::TooMany => Problem::of(
            "taskId",
            format!("has too many push notification configs: {error}"),
        )
        .into(),
        other => ApiError::from(other).into(),
    }
}

/// A configuration as it may be shown: without what is secret.
fn config(task: &str, receiver: &Receiver) -> Value {
    let mut config = Map::new();
    config.insert("taskId".to_owned(), task.into());
    config.insert("id".to_owned(), (*receiver.config).into());
    config.insert("url".to_owned(), (*receiver.url).into());
    if let Some(scheme) = &receiver.scheme {
        config.insert("authentication".to_owned(), json!({"scheme": **scheme}));
    }
    config.into()
}

/// A receiver that came with a message, until its task has an id.
pub(super) struct Inline(NewReceiver);

const INLINE: &str = "configuration.taskPushNotificationConfig.";

impl Inline {
    /// Looks at what came with a message before that is handed over; told will be what happens from now on. Clients send it
    /// with each message: without a name of its own it makes room for itself.
    pub(super) async fn of(
        call: &Call,
        config: Option<&Value>,
        old: bool,
    ) -> Result<Option<Self>, Trouble> {
        let Some(config) = config else {
            return Ok(None);
        };
        let mut new = wanted(INLINE, config)?;
        new.config.get_or_insert_with(|| DEFAULT.to_owned());
        new.old_form = old;
        let outbox = &call.state.outbox;
        let fit = outbox.examine(&new).await;
        fit.map_err(|error| refused(INLINE, error))?;
        new.after = Some(outbox.place().await?);
        Ok(Some(Self(new)))
    }

    /// Tells it of this task; of one that was handed over `before`, what happens from now on.
    pub(super) async fn follow(
        mut self,
        call: &Call,
        id: &str,
        before: bool,
    ) -> Result<(), Trouble> {
        if before {
            self.0.after = None;
        }
        let key = call.key_of(id);
        let outbox = &call.state.outbox;
        let made = outbox.create(key.caller, Some(key.id), self.0).await;
        made.map(drop).map_err(|error| refused(INLINE, error))
    }
}

/// What a receiver is told of an event: an update, and at the end the whole task; in 0.3 always the task.
pub(in crate::http) async fn told(
    store: &Store,
    receiver: &Receiver,
    event: &Shown,
) -> Result<Vec<Bytes>, store::Error> {
    let (Some(id), Some(name)) = (&receiver.delegation, EventName::parse(&event.name)) else {
        return Ok(Vec::new());
    };
    let ends = match name {
        EventName::DelegationStatus | EventName::TaskArtifact => false,
        EventName::DelegationComplete
        | EventName::DelegationFailed
        | EventName::DelegationCancelled => true,
        _ => return Ok(Vec::new()),
    };
    let key = DelegationKey {
        caller: receiver.workspace,
        id: id.clone(),
    };
    let payload = event.payload.as_ref();
    let payload: Value = payload
        .and_then(|json| serde_json::from_str(&json.0).ok())
        .unwrap_or_default();
    let response = if ends || receiver.old_form {
        let seen = store.read(move |reader| Seen::read(reader, &key)).await?;
        seen.map(|seen| json!({"task": seen.task(Extent::whole(Some(0)))}))
    } else {
        // Of a long answer there are many pieces: what they are pieces of is not read for each.
        let envelope = store.read(move |reader| reader.envelope(&key)).await?;
        let id = id.to_string();
        let context = envelope.map_or_else(|| id.clone(), |envelope| envelope.context.into());
        update(name, &payload, (&id, &context), event)
    };
    let Some(response) = response else {
        return Ok(Vec::new());
    };
    let response = if receiver.old_form {
        forms::old_response(&response, ends)
    } else {
        response
    };
    Ok(vec![response.to_string().into()])
}

/// The update that an event is.
fn update(
    name: EventName,
    payload: &Value,
    (task, context): (&str, &str),
    event: &Shown,
) -> Option<Value> {
    if name == EventName::TaskArtifact {
        let artifact = payload.get("artifact")?;
        let (append, last) = (is_true(payload, "append"), is_true(payload, "last_chunk"));
        return Some(json!({"artifactUpdate": {
            "taskId": task, "contextId": context, "artifact": artifact, "append": append, "lastChunk": last,
        }}));
    }
    let place = event.position.unwrap_or(Position(0));
    let (status, _) = told_status(payload, (task, context), place, event.at)?;
    Some(json!({"statusUpdate": {"taskId": task, "contextId": context, "status": status}}))
}
