//! What an agent tells of its task while it works, folded into what it comes to in the end: pure, and as tolerant as the
//! reading of whole answers. Events may be wrapped or bare, of either version, in either's words (a2a.md §2, §5).

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::result::{completes_with_nothing, is_by_user, phase, said, task_id, words};
use super::{is_foreign, rpc_code};
use crate::dispatch::parts::Artifact;
use crate::dispatch::wire::{each, is_object, members, pick, string};
use crate::domain::{Binding, Json, Product, RemoteTaskId, WorkPhase, preview, repair_json};

/// How much is kept of what an agent says of its work, in bytes.
const WORDS_BYTES: usize = 4_096;

/// What an agent tells before its answer is complete.
#[derive(Clone, PartialEq, Debug)]
pub enum News {
    /// It has the task, under this name if it gave one, and stands here with it.
    Stands(Option<RemoteTaskId>, WorkPhase),
    /// It says something of its work.
    Says(Arc<str>),
    /// It made something.
    Made(Product),
    /// It gave a sign of life, and nothing else.
    Lives,
}

/// What has been told so far.
#[derive(Debug, Default)]
pub(in crate::dispatch) struct Telling {
    binding: Binding,
    request_id: String,
    /// Whether the message went on with a task: the agent may begin with how that stood before.
    goes_on: bool,
    task: Option<String>,
    context: Option<String>,
    status: Option<Box<RawValue>>,
    artifacts: Vec<Artifact>,
    /// Where the task stood when that was told last, and under which name.
    told: Option<(Option<RemoteTaskId>, WorkPhase)>,
    end: Option<End>,
}

/// Why nothing more is to be heard.
#[derive(Debug)]
enum End {
    /// The task is over.
    Task,
    /// This is the answer, as it was sent.
    Whole(Bytes),
    /// The agent broke off, or said less than there is, and this is how.
    Broken(String),
}

/// What a stream came to.
pub(in crate::dispatch) enum Told {
    /// The text of an answer that says all of it at once.
    Answer(Bytes),
    /// The agent was given the task, or may have been, and more is to be learned of it.
    Open(String),
}

impl Telling {
    pub(in crate::dispatch) fn new(binding: Binding, request_id: String, goes_on: bool) -> Self {
        Self {
            binding,
            request_id,
            goes_on,
            ..Self::default()
        }
    }

    /// What it answers: over what it was asked, and under which id.
    pub(in crate::dispatch) fn request(&self) -> (Binding, String) {
        (self.binding, self.request_id.clone())
    }

    /// Whether nothing more is to be heard.
    pub(in crate::dispatch) const fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Takes the data of an event, and says what is new. What cannot be read says nothing.
    pub(in crate::dispatch) fn hear(&mut self, data: &[u8]) -> Vec<News> {
        let text = repair_json(data);
        let Ok([id, result, error]) = pick(&text, ["id", "result", "error"]) else {
            return Vec::new();
        };
        match self.binding {
            Binding::JsonRpc => {
                let ours = id.and_then(string).as_deref() == Some(&*self.request_id);
                match (result, error) {
                    (Some(result), None) if ours => self.take(result),
                    (None, Some(error)) if !is_foreign(id, ours) => self.fail(data, error),
                    _ => Vec::new(),
                }
            }
            Binding::Rest => match (serde_json::from_str(&text), error) {
                (_, Some(error)) if is_object(error) => self.fail(data, error),
                (Ok(result), _) => self.take(result),
                (Err(_), _) => Vec::new(),
            },
        }
    }

    /// What it came to, where nothing more is to be heard because of `why`.
    pub(in crate::dispatch) fn ended(self, why: &str) -> Told {
        match &self.end {
            Some(End::Whole(answer)) => Told::Answer(answer.clone()),
            Some(End::Task) => Told::Answer(self.folded()),
            Some(End::Broken(why)) => Told::Open(why.clone()),
            None => Told::Open(format!("the stream ended before the task did: {why}")),
        }
    }

    /// An error ends the stream. Only when no task is known it is the answer: else it may speak of the stream alone.
    fn fail(&mut self, data: &[u8], error: &RawValue) -> Vec<News> {
        self.end = Some(if self.told.is_some() {
            let code = rpc_code(error).map_or_else(String::new, |code| format!(" {code}"));
            End::Broken(format!("the agent ended its stream with an error{code}"))
        } else {
            End::Whole(Bytes::copy_from_slice(data))
        });
        Vec::new()
    }

    fn take(&mut self, result: &RawValue) -> Vec<News> {
        match Update::of(result) {
            Some(Update::Task(task)) => self.task(task),
            Some(Update::Status(update)) => self.status(update),
            Some(Update::Artifact(update)) => self.artifact(update),
            // Ours, thrown back.
            Some(Update::Message(message)) if is_by_user(message) => Vec::new(),
            Some(Update::Message(message)) if self.told.is_some() => {
                says(words(Some(message))).into_iter().collect()
            }
            Some(Update::Message(_)) => {
                self.end = Some(End::Whole(self.answer(result)));
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// The whole of the task, as it stands now.
    fn task(&mut self, task: &RawValue) -> Vec<News> {
        let [context, status, artifacts] = members(task, ["contextId", "status", "artifacts"]);
        if !self.is_ours(task_id(task), context) {
            return Vec::new();
        }
        if let Some(artifacts) = artifacts {
            self.artifacts.clear();
            each(artifacts, |artifact| {
                self.artifacts.push(Artifact::read(artifact));
            });
        }
        let echo = std::mem::take(&mut self.goes_on)
            && matches!(phase(status), Some(WorkPhase::InputRequired { .. }));
        if echo {
            // How it stood before the answer to its question arrived.
            return vec![News::Lives];
        }
        self.stands(status)
    }

    fn status(&mut self, update: &RawValue) -> Vec<News> {
        let [id, context, status] = members(update, ["taskId", "contextId", "status"]);
        self.goes_on = false;
        if self.is_ours(id.and_then(string), context) {
            self.stands(status)
        } else {
            Vec::new()
        }
    }

    fn stands(&mut self, status: Option<&RawValue>) -> Vec<News> {
        self.status = status.map(ToOwned::to_owned);
        let Some(phase) = phase(status) else {
            return self.over(status);
        };
        let asks = matches!(phase, WorkPhase::InputRequired { .. });
        let mut news: Vec<News> = self.standing(phase).into_iter().collect();
        news.extend(says(status.and_then(said).filter(|_| !asks)));
        if news.is_empty() {
            news.push(News::Lives);
        }
        news
    }

    /// The task is over. One that was completed with nothing may have more to show to who asks after it.
    fn over(&mut self, status: Option<&RawValue>) -> Vec<News> {
        if self.task.is_none() || !self.artifacts.is_empty() || !completes_with_nothing(status) {
            self.end = Some(End::Task);
            return Vec::new();
        }
        self.end = Some(End::Broken(
            "the agent completed its task, and its stream did not say with what".to_owned(),
        ));
        self.standing(WorkPhase::Working).into_iter().collect()
    }

    /// Where it stands, if that is new. Of work without a name nothing can be learned once the stream breaks: it must not
    /// look as if more were to come.
    fn standing(&mut self, phase: WorkPhase) -> Option<News> {
        let task = self.task.as_deref().map(|id| RemoteTaskId(id.into()));
        let standing = Some((task.clone(), phase.clone()));
        if self.told == standing {
            return None;
        }
        self.told = standing;
        let counts = task.is_some() || matches!(phase, WorkPhase::InputRequired { .. });
        counts.then_some(News::Stands(task, phase))
    }

    fn artifact(&mut self, update: &RawValue) -> Vec<News> {
        let [id, context, artifact, append, last] = members(
            update,
            ["taskId", "contextId", "artifact", "append", "lastChunk"],
        );
        let Some(artifact) = artifact.filter(|artifact| is_object(artifact)) else {
            return Vec::new();
        };
        if !self.is_ours(id.and_then(string), context) {
            return Vec::new();
        }
        let is_true = |flag: Option<&RawValue>| flag.is_some_and(|flag| flag.get() == "true");
        let artifact = Artifact::read(artifact);
        let before = self
            .artifacts
            .iter()
            .position(|other| other.id == artifact.id);
        let before = before.and_then(|place| self.artifacts.get_mut(place));
        // More of what is not there begins it.
        let append = is_true(append) && before.is_some();
        let made = News::Made(Product {
            artifact: Json::of(&artifact),
            append,
            last_chunk: is_true(last),
        });
        match before {
            Some(before) if append => before.append(artifact),
            Some(before) => *before = artifact,
            None => self.artifacts.push(artifact),
        }
        // Whoever makes something has the task, even if it did not say so.
        let told = self.told.as_ref();
        let phase = told.map_or(WorkPhase::Working, |(_, phase)| phase.clone());
        let mut news: Vec<News> = self.standing(phase).into_iter().collect();
        news.push(made);
        news
    }

    /// Whether it is about the task of this stream, whose name is learned by that.
    fn is_ours(&mut self, task: Option<String>, context: Option<&RawValue>) -> bool {
        if let (Some(known), Some(task)) = (&self.task, &task)
            && known != task
        {
            return false;
        }
        self.task = self.task.take().or(task);
        self.context = self.context.take().or_else(|| context.and_then(string));
        true
    }

    /// The answer that the agent would have given at once.
    fn folded(&self) -> Bytes {
        #[derive(Serialize)]
        struct Task<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            id: Option<&'a str>,
            #[serde(rename = "contextId", skip_serializing_if = "Option::is_none")]
            context: Option<&'a str>,
            status: Option<&'a RawValue>,
            artifacts: &'a [Artifact],
        }
        #[derive(Serialize)]
        struct Result<'a> {
            task: Task<'a>,
        }
        let task = Task {
            id: self.task.as_deref(),
            context: self.context.as_deref(),
            status: self.status.as_deref(),
            artifacts: &self.artifacts,
        };
        // What was JSON can be written as JSON.
        let result = to_raw_value(&Result { task });
        result.map_or_else(|_| Bytes::new(), |result| self.answer(&result))
    }

    /// An answer to our request with this result.
    fn answer(&self, result: &RawValue) -> Bytes {
        #[derive(Serialize)]
        struct Answer<'a> {
            jsonrpc: &'static str,
            id: &'a str,
            result: &'a RawValue,
        }
        let written = match self.binding {
            Binding::Rest => return Bytes::copy_from_slice(result.get().as_bytes()),
            Binding::JsonRpc => serde_json::to_vec(&Answer {
                jsonrpc: "2.0",
                id: &self.request_id,
                result,
            }),
        };
        written.unwrap_or_default().into()
    }
}

fn says(words: Option<String>) -> Option<News> {
    words.map(|words| News::Says(preview(&words, WORDS_BYTES).into()))
}

/// What an event is about.
enum Update<'a> {
    Task(&'a RawValue),
    Status(&'a RawValue),
    Artifact(&'a RawValue),
    Message(&'a RawValue),
}

impl<'a> Update<'a> {
    fn of(result: &'a RawValue) -> Option<Self> {
        let object = |value: Option<&'a RawValue>| value.filter(|value| is_object(value));
        // 1.0 wraps, 0.3 names the kind.
        let [task, message, status, artifact] = members(
            result,
            ["task", "message", "statusUpdate", "artifactUpdate"],
        )
        .map(object);
        let [kind, id, state, made] = members(result, ["kind", "id", "status", "artifact"]);
        let [role, parts] = members(result, ["role", "parts"]);
        let kind = kind.and_then(string);
        match kind.as_deref() {
            Some("task") => Some(Self::Task(result)),
            Some("status-update") => Some(Self::Status(result)),
            Some("artifact-update") => Some(Self::Artifact(result)),
            Some("message") => Some(Self::Message(result)),
            _ if task.is_some() => task.map(Self::Task),
            _ if status.is_some() => status.map(Self::Status),
            _ if artifact.is_some() => artifact.map(Self::Artifact),
            _ if message.is_some() => message.map(Self::Message),
            // Neither: by what it has.
            _ if object(made).is_some() => Some(Self::Artifact(result)),
            _ if object(state).is_some() && id.is_some() => Some(Self::Task(result)),
            _ if object(state).is_some() => Some(Self::Status(result)),
            _ if role.is_some() || parts.is_some() => Some(Self::Message(result)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
