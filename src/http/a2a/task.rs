//! A delegation as a task of A2A 1.0 (A2A §4.1.1): its id is the delegation's.

use serde_json::{Map, Value, json};

use super::forms;
use crate::dispatch::answer_in;
use crate::domain::{
    DelegationKey, Ending, ErrorClass, EventName, Position, State, Status, Timestamp, WaitingFor,
    repair_json, sanitize,
};
use crate::store::{self, Classes, DelegationView, EventView, Reader};

/// The most that is shown of what was said and made in the course of a delegation.
pub(super) const COURSE: i64 = 10_000;

/// All that a task is made of.
pub(super) struct Seen {
    pub(super) view: DelegationView,
    context: Option<Box<str>>,
    message: Option<Value>,
    task: String,
    course: Vec<EventView>,
    /// What the agent answered, when that is how it ended: a later answer changes nothing (rule 7).
    raw: Option<Value>,
}

/// How much of a task is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// The newest messages of its history; all with none.
    pub(super) history: Option<usize>,
    pub(super) artifacts: bool,
}

impl Extent {
    pub(super) const fn whole(history: Option<usize>) -> Self {
        Self {
            history,
            artifacts: true,
        }
    }
}

impl Seen {
    /// Reads a delegation with all that a task is made of.
    pub(super) fn read(
        reader: &mut dyn Reader,
        key: &DelegationKey,
    ) -> Result<Option<Self>, store::Error> {
        let Some(view) = reader.view(key)? else {
            return Ok(None);
        };
        let envelope = reader.envelope(key)?;
        let course = reader.course(key, COURSE)?;
        let task = match &envelope {
            Some(_) => String::new(),
            None => reader.task(key)?.unwrap_or_default().to_string(),
        };
        let message = envelope.as_ref();
        let raw = raw_ending(&view);
        Ok(Some(Self {
            raw,
            view,
            message: message.and_then(|envelope| serde_json::from_str(&envelope.message.0).ok()),
            context: envelope.map(|envelope| envelope.context),
            task,
            course,
        }))
    }

    /// How long the agent's answer is.
    pub(super) fn bytes(&self) -> usize {
        self.view.raw_reply.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn status(&self) -> Status {
        self.view.loaded.life.status()
    }

    pub(super) fn id(&self) -> String {
        self.view.loaded.terms.key.id.to_string()
    }

    /// One that did not come as a message is a context of its own.
    pub(super) fn context(&self) -> String {
        match &self.context {
            Some(context) => context.to_string(),
            None => self.id(),
        }
    }

    /// Up to here what was made is in the task as it is shown.
    pub(super) fn known_up_to(&self) -> i64 {
        self.course
            .last()
            .map_or(i64::MIN, |event| event.position.0)
    }

    /// The task.
    pub(super) fn task(&self, extent: Extent) -> Value {
        let mut task = Map::new();
        task.insert("id".to_owned(), self.id().into());
        task.insert("contextId".to_owned(), self.context().into());
        task.insert("status".to_owned(), self.shown_status());
        if extent.artifacts {
            let artifacts = self.artifacts();
            if !artifacts.is_empty() {
                task.insert("artifacts".to_owned(), artifacts.into());
            }
        }
        if extent.history != Some(0) {
            let mut history = self.history();
            let length = extent.history.unwrap_or(history.len());
            let history = history.split_off(history.len().saturating_sub(length));
            task.insert("history".to_owned(), history.into());
        }
        task.insert("metadata".to_owned(), self.metadata());
        Value::Object(task)
    }

    fn shown_status(&self) -> Value {
        let life = &self.view.loaded.life;
        let class = match &life.state {
            State::Ended(ended) => match &ended.ending {
                Ending::Failed { class, .. } => Some(class.as_str()),
                Ending::Completed { .. } | Ending::Cancelled { .. } => None,
            },
            _ => None,
        };
        let mut status = Map::new();
        let word = state(life.status(), class);
        status.insert("state".to_owned(), word.into());
        let at = self.view.updated_at.to_rfc3339();
        status.insert("timestamp".to_owned(), at.into());
        if let Some(message) = self.status_message() {
            status.insert("message".to_owned(), message);
        }
        Value::Object(status)
    }

    /// What is said of the present state.
    fn status_message(&self) -> Option<Value> {
        let words: String = match &self.view.loaded.life.state {
            State::Ended(ended) => match &ended.ending {
                Ending::Completed { .. } => return self.final_message(),
                Ending::Failed { detail: text, .. } | Ending::Cancelled { reason: text } => {
                    text.to_string()
                }
            },
            State::InputRequired(question) => question.text.to_string(),
            State::Working(working) | State::Stuck(working) => {
                let progress = working.progress.as_ref()?;
                progress.message.as_deref()?.to_owned()
            }
            State::Queued(wait) => waits_for(wait.waiting_for).to_owned(),
            State::Pending => return None,
        };
        let id = format!("{}:{}:status", self.id(), self.view.loaded.revision.0);
        (!words.is_empty()).then(|| said(&id, &self.id(), &self.context(), &words))
    }

    /// The agent's own last word, when it ended its task with one.
    fn final_message(&self) -> Option<Value> {
        let message = self.answer()?.task?.get("status")?.get("message")?;
        message.is_object().then(|| self.ours(message))
    }

    /// What was made: what the agent's answer has, or has had so far; else the result in words.
    pub(super) fn artifacts(&self) -> Vec<Value> {
        let State::Ended(ended) = &self.view.loaded.life.state else {
            return self.made_so_far();
        };
        let Ending::Completed { text } = &ended.ending else {
            return self.made_so_far();
        };
        let answer = self.answer().unwrap_or_default();
        let listed = answer.task.and_then(|task| task.get("artifacts"));
        if let Some(listed) = listed
            .and_then(Value::as_array)
            .filter(|all| !all.is_empty())
        {
            let named = |(place, artifact)| named(place, forms::artifact(artifact));
            return listed.iter().enumerate().map(named).collect();
        }
        if self.final_message().is_some() {
            return Vec::new();
        }
        let parts = answer
            .message
            .and_then(|message| message.get("parts").cloned());
        let parts = parts.unwrap_or_else(|| json!([{"text": &**text}]));
        vec![json!({"artifactId": "result", "name": "result", "parts": parts})]
    }

    /// The chunks that were streamed, put together.
    pub(super) fn made_so_far(&self) -> Vec<Value> {
        let mut made: Vec<Value> = Vec::new();
        for event in &self.course {
            let Some(payload) = payload_of(event, EventName::TaskArtifact) else {
                continue;
            };
            let (Some(artifact), append) = (payload.get("artifact"), is_true(&payload, "append"))
            else {
                continue;
            };
            let id = artifact.get("artifactId");
            let same = made.iter_mut().find(|other| other.get("artifactId") == id);
            match same {
                Some(whole) if append => extend(whole, artifact),
                Some(whole) => *whole = artifact.clone(),
                None => made.push(artifact.clone()),
            }
        }
        made
    }

    /// The agent's own answer, if it ended the task.
    pub(super) const fn raw(&self) -> Option<&Value> {
        self.raw.as_ref()
    }

    fn answer(&self) -> Option<Answer<'_>> {
        Answer::read(self.raw()?)
    }

    /// Whether the caller said something under this id.
    pub(super) fn was_said(&self, message_id: &str) -> bool {
        let mut history = self.history().into_iter();
        history.any(|said| said.get("messageId").and_then(Value::as_str) == Some(message_id))
    }

    /// The message that the agent answered with instead of a task.
    pub(super) fn message(&self) -> Option<Value> {
        let completed = self.status() == Status::Completed;
        let message = self.answer().filter(|_| completed)?.message?;
        Some(self.ours(&message))
    }

    /// A message of the agent, under our names for task and context.
    fn ours(&self, message: &Value) -> Value {
        let mut message = forms::message(message);
        if let Some(members) = message.as_object_mut() {
            members.insert("taskId".to_owned(), self.id().into());
            members.insert("contextId".to_owned(), self.context().into());
            let id = members.entry("messageId").or_insert(Value::Null);
            if !id.is_string() {
                *id = format!("{}:result", self.view.loaded.terms.key.id).into();
            }
            members.insert("role".to_owned(), "ROLE_AGENT".into());
        }
        message
    }

    /// What was said, oldest first.
    fn history(&self) -> Vec<Value> {
        let (id, context) = (self.id(), self.context());
        let first = self.message.clone().unwrap_or_else(
            || json!({"messageId": id, "role": "ROLE_USER", "parts": [{"text": self.task}]}),
        );
        let later = self.course.iter().filter_map(|event| {
            let payload = payload_of(event, EventName::TaskMessage)?;
            payload.get("message").cloned()
        });
        let mut said: Vec<Value> = std::iter::once(first).chain(later).collect();
        for members in said.iter_mut().filter_map(Value::as_object_mut) {
            members.insert("taskId".to_owned(), id.clone().into());
            members.insert("contextId".to_owned(), context.clone().into());
        }
        said
    }

    /// What Baton knows besides.
    fn metadata(&self) -> Value {
        let loaded = &self.view.loaded;
        json!({"baton": {
            "status": loaded.life.status().as_str(), "attempts": loaded.life.attempt.0,
            "deadline": loaded.terms.deadline.to_rfc3339(), "revision": loaded.revision.0,
        }})
    }
}

/// The agent's reply, if it is what a delegation ended with.
fn raw_ending(view: &DelegationView) -> Option<Value> {
    let State::Ended(ended) = &view.loaded.life.state else {
        return None;
    };
    let raw = view.raw_reply.as_deref()?;
    match &ended.ending {
        Ending::Completed { text } => {
            let answered = answer_in(raw)?;
            (sanitize(&answered) == sanitize(text)).then_some(())?;
        }
        Ending::Failed { .. } => {}
        Ending::Cancelled { .. } => return None,
    }
    serde_json::from_str(&repair_json(raw)).ok()
}

/// What an agent answered.
#[derive(Default)]
struct Answer<'a> {
    task: Option<&'a Value>,
    message: Option<Value>,
}

impl<'a> Answer<'a> {
    /// The answer; wrapped or not, JSON-RPC or not.
    fn read(whole: &'a Value) -> Option<Self> {
        let result = whole.get("result").unwrap_or(whole);
        let (task, message) = (result.get("task"), result.get("message"));
        let kind = result.get("kind").and_then(Value::as_str);
        Some(match (kind, task, message) {
            (None, Some(task), _) if task.is_object() => Self::of_task(task),
            (None, None, Some(message)) if message.is_object() => Self::of_message(message),
            (Some("task"), ..) => Self::of_task(result),
            _ if result.get("status").is_some_and(Value::is_object) => Self::of_task(result),
            _ if result.get("parts").is_some_and(Value::is_array) => Self::of_message(result),
            _ => return None,
        })
    }

    const fn of_task(task: &'a Value) -> Self {
        Self {
            task: Some(task),
            message: None,
        }
    }

    fn of_message(message: &Value) -> Self {
        let message = forms::message(message);
        let has_parts = message.get("parts").is_some_and(Value::is_array);
        Self {
            task: None,
            message: has_parts.then_some(message),
        }
    }
}

/// An artifact needs an id (A2A §4.1.7).
fn named(place: usize, mut artifact: Value) -> Value {
    if let Some(members) = artifact.as_object_mut() {
        let id = members.entry("artifactId").or_insert(Value::Null);
        if !id.is_string() {
            *id = format!("artifact-{}", place.saturating_add(1)).into();
        }
        members.entry("parts").or_insert_with(|| json!([]));
    }
    artifact
}

fn extend(whole: &mut Value, more: &Value) {
    let more = more.get("parts").and_then(Value::as_array);
    if let (Some(Value::Array(parts)), Some(more)) = (whole.get_mut("parts"), more) {
        parts.extend(more.iter().cloned());
    }
}

pub(super) fn is_true(payload: &Value, name: &str) -> bool {
    payload.get(name) == Some(&Value::Bool(true))
}

/// What an event of this name says.
fn payload_of(event: &EventView, name: EventName) -> Option<Value> {
    let named = event.name == name.as_str();
    serde_json::from_str(&event.payload.as_ref().filter(|_| named)?.0).ok()
}

/// A message of Baton's own words.
pub(super) fn said(id: &str, task: &str, context: &str, words: &str) -> Value {
    json!({
        "messageId": id, "taskId": task, "contextId": context, "role": "ROLE_AGENT", "parts": [{"text": words}],
    })
}

/// The state of a task (A2A §4.1.3): one that nobody works on is submitted.
pub(super) fn state(status: Status, class: Option<&str>) -> &'static str {
    match status {
        Status::Pending | Status::Queued | Status::Dispatched => "TASK_STATE_SUBMITTED",
        Status::Received | Status::InProgress | Status::Stuck => "TASK_STATE_WORKING",
        Status::InputRequired => "TASK_STATE_INPUT_REQUIRED",
        Status::Completed => "TASK_STATE_COMPLETED",
        Status::Failed => match class.and_then(ErrorClass::parse) {
            Some(ErrorClass::Rejected) => "TASK_STATE_REJECTED",
            Some(ErrorClass::CancelledByTarget) => "TASK_STATE_CANCELED",
            _ => "TASK_STATE_FAILED",
        },
        Status::Cancelled => "TASK_STATE_CANCELED",
    }
}

/// The status that the payload of an event tells, and whether it says more than the state.
pub(super) fn told_status(
    payload: &Value,
    (task, context): (&str, &str),
    place: Position,
    at: Timestamp,
) -> Option<(Value, bool)> {
    let text = |name: &str| payload.get(name).and_then(Value::as_str);
    let status = text("status").and_then(Status::parse)?;
    let waiting = text("waiting_for").and_then(WaitingFor::parse);
    let words = text("question")
        .or(text("message"))
        .or(waiting.map(waits_for));
    let mut shown = json!({"state": state(status, None), "timestamp": at.to_rfc3339()});
    if let (Some(words), Some(members)) = (words, shown.as_object_mut()) {
        let message = said(&format!("{task}:{place}"), task, context, words);
        members.insert("message".to_owned(), message);
    }
    Some((shown, words.is_some()))
}

/// How a delegation may stand whose task is in this state, and why it failed if it did; none for a word that is no state.
pub(super) fn standings(state_word: &str) -> Option<Vec<(Status, Classes)>> {
    const OTHERS: &[&str] = &["rejected", "cancelled_by_target"];
    let all = Status::ALL.iter().copied();
    let plain = |status: &Status| *status != Status::Failed && state(*status, None) == state_word;
    let mut found: Vec<_> = all
        .filter(plain)
        .map(|status| (status, Classes::Any))
        .collect();
    let failed = match state_word {
        "TASK_STATE_FAILED" => Some(Classes::But(OTHERS)),
        "TASK_STATE_REJECTED" => Some(Classes::Only("rejected")),
        "TASK_STATE_CANCELED" => Some(Classes::Only("cancelled_by_target")),
        _ => None,
    };
    found.extend(failed.map(|classes| (Status::Failed, classes)));
    (!found.is_empty() || state_word == "TASK_STATE_AUTH_REQUIRED").then_some(found)
}

/// Why a task is not worked on.
pub(super) const fn waits_for(what: WaitingFor) -> &'static str {
    match what {
        WaitingFor::Busy => "the agent is busy",
        WaitingFor::TargetQueue => "the agent has put it into its own queue",
        WaitingFor::Unreachable => "the agent cannot be reached; it is tried again",
        WaitingFor::Redelivery => "it is sent again",
        WaitingFor::Address => "the agent has no address yet",
        WaitingFor::Poll => "it waits in the agent's inbox",
        WaitingFor::Capacity => "others are before it",
        WaitingFor::Offline => "the agent is offline",
        WaitingFor::Breaker => "the agent has failed too often; it is tried now and then",
    }
}
