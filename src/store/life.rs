//! A delegation's life as columns, and back. Total in both directions: what cannot be read is [`Error::Unreadable`].

#![expect(
    clippy::ref_option_ref,
    reason = "Diesel's derives borrow each field as it is"
)]

use std::borrow::Cow;
use std::sync::Arc;

use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::history::{history_entry, history_json, more_history};
use super::schema::delegations;
use super::standing::EndColumns;
use super::types::{Id, Ts};
use super::{Error, Loaded};
use crate::domain::{
    Accept, Attempt, DelegationId, DelegationKey, Ended, Ending, ErrorClass, Incarnation, Input,
    Json, LateResult, Life, NodeId, Origin, Phase, Position, Priority, Progress, Question,
    Redelivery, RemoteTaskId, Revision, Said, State, Status, Terms, Trouble, Wait, WaitingFor,
    Working, WorkspaceId, sanitize,
};

/// How much of a task or a result a list shows, in bytes.
pub(crate) const PREVIEW_BYTES: usize = 4096;
/// A longer key is kept as its hash: an index entry must fit into a third of a page.
const KEY_BYTES: usize = 512;

/// The longest prefix of whole characters within [`PREVIEW_BYTES`].
pub(crate) fn head(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(PREVIEW_BYTES)).0
}

/// What is kept beside a task so that a list need not read the whole of it: nothing when it is short. Cut after it is
/// sanitized: U+FFFD is longer than the NUL that it stands for.
fn long_head(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        short if short.len() <= PREVIEW_BYTES => Cow::Borrowed(""),
        Cow::Borrowed(text) => Cow::Borrowed(head(text)),
        Cow::Owned(text) => Cow::Owned(head(&text).to_owned()),
    }
}

/// The caller's key as it is stored and looked up.
pub(crate) fn stored_key(key: &str) -> Cow<'_, str> {
    if key.len() <= KEY_BYTES {
        return sanitize(key);
    }
    let hash = Sha256::digest(key.as_bytes());
    Cow::Owned(hash.iter().fold("sha256:".to_owned(), |text, byte| {
        format!("{text}{byte:02x}")
    }))
}

/// The columns that say where a delegation stands.
#[derive(AsChangeset, Insertable, Clone, Debug, Default)]
#[diesel(table_name = delegations, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(crate) struct LifeColumns<'a> {
    pub(crate) status: &'a str,
    pub(crate) attempt: i32,
    pub(crate) waiting_for: Option<&'a str>,
    pub(crate) next_attempt_at: Option<Ts>,
    pub(crate) task_id: Option<Cow<'a, str>>,
    pub(crate) phase: Option<&'a str>,
    pub(crate) question: Option<Cow<'a, str>>,
    pub(crate) input: Option<Cow<'a, str>>,
    pub(crate) input_message: Option<&'a str>,
    pub(crate) failures: Option<i32>,
    pub(crate) failing_since: Option<Ts>,
    pub(crate) progress_message: Option<Cow<'a, str>>,
    pub(crate) progress_percent: Option<i32>,
}

const PHASE_DISPATCHED: &str = "dispatched";
const PHASE_RECEIVED: &str = "received";
const PHASE_IN_PROGRESS: &str = "in_progress";

impl<'a> LifeColumns<'a> {
    /// Spreads a life over the columns; those that its state does not know become NULL.
    pub(crate) fn of(life: &'a Life) -> Self {
        let mut columns = Self {
            status: life.status().as_str(),
            attempt: stored_count(life.attempt.0),
            ..Self::default()
        };
        match &life.state {
            State::Pending | State::Ended(_) => {}
            State::Working(working) | State::Stuck(working) => columns.work(working),
            State::Queued(wait) => {
                columns.waiting_for = Some(wait.waiting_for.as_str());
                columns.next_attempt_at = Some(wait.until.into());
                columns.trouble(wait.trouble);
            }
            State::InputRequired(question) => {
                columns.task_id = question.task.as_ref().map(|task| sanitize(&task.0));
                columns.question = Some(sanitize(&question.text));
            }
        }
        columns
    }

    fn work(&mut self, working: &'a Working) {
        self.phase = Some(match working.phase {
            Phase::Dispatched { trouble } => {
                self.trouble(trouble);
                PHASE_DISPATCHED
            }
            Phase::Received { .. } => PHASE_RECEIVED,
            Phase::InProgress { .. } => PHASE_IN_PROGRESS,
        });
        self.task_id = working.phase.task().map(|task| sanitize(&task.0));
        if let Some(progress) = &working.progress {
            self.progress_message = progress.message.as_deref().map(sanitize);
            self.progress_percent = progress.percent.map(i32::from);
        }
        if let Some(input) = &working.input {
            self.question = Some(sanitize(&input.question));
            self.input = Some(sanitize(&input.answer.text));
            self.input_message = input.answer.message.as_ref().map(|json| &*json.0);
        }
    }

    fn trouble(&mut self, trouble: Option<Trouble>) {
        self.failures = trouble.map(|trouble| stored_count(trouble.failures));
        self.failing_since = trouble.map(|trouble| trouble.since.into());
    }
}

/// When the target last gave a sign, if the state knows.
pub(crate) fn heard_at(life: &Life) -> Option<Ts> {
    match &life.state {
        State::Working(working) | State::Stuck(working) => Some(working.heard_at.into()),
        State::Pending | State::Queued(_) | State::InputRequired(_) | State::Ended(_) => None,
    }
}

/// A delegation to insert.
#[derive(Insertable, Debug)]
#[diesel(table_name = delegations, treat_none_as_default_value = false)]
pub(crate) struct NewRow<'a> {
    pub(crate) number: i64,
    pub(crate) caller_id: Id,
    pub(crate) delegation_id: Cow<'a, str>,
    pub(crate) callee_id: Option<Id>,
    pub(crate) task: Cow<'a, str>,
    pub(crate) task_preview: Cow<'a, str>,
    pub(crate) message: Option<&'a str>,
    pub(crate) context_id: Option<Cow<'a, str>>,
    pub(crate) origin: &'a str,
    pub(crate) redelivery: &'a str,
    pub(crate) priority: i32,
    #[diesel(embed)]
    pub(crate) life: LifeColumns<'a>,
    #[diesel(embed)]
    pub(crate) end: EndColumns<'a>,
    pub(crate) last_heartbeat: Option<Ts>,
    pub(crate) deadline: Ts,
    pub(crate) retry_of: Option<Cow<'a, str>>,
    pub(crate) parent_caller_id: Option<Id>,
    pub(crate) parent_delegation_id: Option<Cow<'a, str>>,
    pub(crate) idempotency_key: Option<Cow<'a, str>>,
    pub(crate) fingerprint: Option<&'a [u8]>,
    pub(crate) traceparent: Option<Cow<'a, str>>,
    pub(crate) history: String,
    pub(crate) reply: &'a str,
    pub(crate) revision: i64,
    pub(crate) incarnation: i32,
    pub(crate) lease_owner: Id,
    pub(crate) created_at: Ts,
    pub(crate) updated_at: Ts,
}

impl<'a> NewRow<'a> {
    /// The row of an acceptance; `life` is its beginning, which the row borrows from.
    pub(crate) fn of(
        number: Position,
        accept: &'a Accept,
        life: &'a Life,
        retry_of: Option<Cow<'a, str>>,
        owner: NodeId,
    ) -> Self {
        let delegation = &accept.delegation;
        let terms = &delegation.terms;
        let key = delegation.idempotency.as_ref();
        let envelope = delegation.envelope.as_ref();
        let parent = delegation.parent.as_ref();
        let sent = accept.sent.as_ref();
        let changed_at = sent.map_or(terms.created_at, |sent| sent.at);
        Self {
            number: number.0,
            caller_id: Id(terms.key.caller.0),
            delegation_id: id_text(&terms.key.id),
            callee_id: terms.target.map(|target| Id(target.0)),
            task: sanitize(&delegation.task),
            task_preview: long_head(sanitize(&delegation.task)),
            message: envelope.map(|envelope| &*envelope.message.0),
            context_id: envelope.map(|envelope| sanitize(&envelope.context)),
            origin: terms.origin.as_str(),
            redelivery: terms.redelivery.as_str(),
            priority: terms.priority.0.into(),
            life: LifeColumns::of(life),
            end: EndColumns::of(life),
            last_heartbeat: heard_at(life),
            deadline: terms.deadline.into(),
            retry_of,
            parent_caller_id: parent.map(|parent| Id(parent.caller.0)),
            parent_delegation_id: parent.map(|parent| id_text(&parent.id)),
            idempotency_key: key.map(|key| stored_key(&key.key)),
            fingerprint: key.map(|key| key.fingerprint.as_slice()),
            traceparent: terms.traceparent.as_deref().map(sanitize),
            history: first_history(accept),
            reply: if accept.feed.reply.is_some() {
                "written"
            } else {
                "none"
            },
            revision: accept.revision().0,
            incarnation: 0,
            lease_owner: Id(owner.0),
            created_at: terms.created_at.into(),
            updated_at: changed_at.into(),
        }
    }
}

/// A delegation that is sent at once was accepted all the same.
fn first_history(accept: &Accept) -> String {
    let delegation = &accept.delegation;
    let accepted = Life::new(delegation.state.clone());
    let mut history = history_json(&history_entry(&accepted, delegation.terms.created_at));
    if let Some(sent) = &accept.sent {
        history.push_str(&more_history(sent));
    }
    history
}

/// A delegation's id as it is stored.
pub(crate) fn id_text(id: &DelegationId) -> Cow<'static, str> {
    match id {
        DelegationId::Uuid(uuid) => Cow::Owned(uuid.to_string()),
        DelegationId::Text(text) => Cow::Owned(text.to_string()),
    }
}

/// An incarnation as it is stored.
pub(crate) fn stored_incarnation(incarnation: Incarnation) -> i32 {
    stored_count(incarnation.0)
}

fn stored_count(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What an actor needs of a delegation, as read.
#[derive(Queryable, Selectable, Clone, Debug)]
#[diesel(table_name = delegations)]
pub(crate) struct LoadedRow {
    pub(crate) caller_id: Id,
    pub(crate) delegation_id: String,
    pub(crate) callee_id: Option<Id>,
    origin: String,
    redelivery: String,
    priority: i32,
    deadline: Ts,
    created_at: Ts,
    traceparent: Option<String>,
    status: String,
    attempt: i32,
    waiting_for: Option<String>,
    next_attempt_at: Option<Ts>,
    task_id: Option<String>,
    phase: Option<String>,
    last_heartbeat: Option<Ts>,
    question: Option<String>,
    input: Option<String>,
    input_message: Option<String>,
    failures: Option<i32>,
    failing_since: Option<Ts>,
    progress_message: Option<String>,
    progress_percent: Option<i32>,
    result_text: Option<String>,
    error_class: Option<String>,
    error_detail: Option<String>,
    late_result: Option<String>,
    late_result_at: Option<Ts>,
    ended_at: Option<Ts>,
    revision: i64,
    incarnation: i32,
    lease_owner: Option<Id>,
}

pub(crate) fn unreadable(column: &'static str, value: impl Into<String>) -> Error {
    Error::Unreadable {
        column,
        value: value.into(),
    }
}

/// Reads a word with `parse`, or says which column holds nonsense.
pub(crate) fn word<T>(
    column: &'static str,
    text: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, Error> {
    parse(text).ok_or_else(|| unreadable(column, text))
}

fn present<T>(column: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| unreadable(column, "NULL"))
}

/// Reads a number that is never negative.
pub(crate) fn count(column: &'static str, value: i32) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_out_of_range| unreadable(column, value.to_string()))
}

fn trouble(failures: Option<i32>, since: Option<Ts>) -> Result<Option<Trouble>, Error> {
    match (failures, since) {
        (Some(failures), Some(since)) => Ok(Some(Trouble {
            failures: count("failures", failures)?,
            since: since.into(),
        })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(unreadable("failing_since", "one of two")),
    }
}

fn small(column: &'static str, value: i32) -> Result<u8, Error> {
    u8::try_from(value).map_err(|_out_of_range| unreadable(column, value.to_string()))
}

impl LoadedRow {
    /// Reads the whole of it.
    pub(crate) fn read(self) -> Result<Loaded, Error> {
        let terms = Terms {
            key: self.key(),
            target: self.callee_id.map(|id| WorkspaceId(id.0)),
            origin: word("origin", &self.origin, Origin::parse)?,
            redelivery: word("redelivery", &self.redelivery, Redelivery::parse)?,
            priority: Priority(small("priority", self.priority)?),
            deadline: self.deadline.into(),
            created_at: self.created_at.into(),
            traceparent: self.traceparent.as_deref().map(Into::into),
        };
        let attempt = Attempt(count("attempt", self.attempt)?);
        let revision = Revision(self.revision);
        let incarnation = Incarnation(count("incarnation", self.incarnation)?);
        let owner = NodeId(self.lease_owner.map_or_else(Uuid::nil, |id| id.0));
        let life = Life {
            attempt,
            state: self.state()?,
        };
        Ok(Loaded {
            terms,
            life,
            revision,
            incarnation,
            owner,
        })
    }

    /// Which one it is, readable or not.
    pub(crate) fn key(&self) -> DelegationKey {
        DelegationKey {
            caller: WorkspaceId(self.caller_id.0),
            id: DelegationId::from_text(&self.delegation_id),
        }
    }

    /// Reads it, or leaves it out with an error in the log: one row that another version wrote stops no others.
    pub(crate) fn read_or_skip(self) -> Option<Loaded> {
        let key = self.key();
        match self.read() {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                tracing::error!(delegation.id = %key, %error, "a delegation cannot be read and is left alone");
                None
            }
        }
    }

    fn state(self) -> Result<State, Error> {
        let status = word("status", &self.status, Status::parse)?;
        Ok(match status {
            Status::Pending => State::Pending,
            Status::Dispatched | Status::Received | Status::InProgress => {
                let working = self.working()?;
                if self.phase.as_deref() != Some(status.as_str()) {
                    return Err(unreadable("phase", self.phase.unwrap_or_default()));
                }
                State::Working(working)
            }
            Status::Stuck => State::Stuck(self.working()?),
            Status::Queued => State::Queued(Wait {
                waiting_for: word(
                    "waiting_for",
                    &present("waiting_for", self.waiting_for)?,
                    WaitingFor::parse,
                )?,
                until: present("next_attempt_at", self.next_attempt_at)?.into(),
                trouble: trouble(self.failures, self.failing_since)?,
            }),
            Status::InputRequired => State::InputRequired(Box::new(Question {
                task: self.task_id.map(|task| RemoteTaskId(task.into())),
                text: present("question", self.question)?.into(),
            })),
            Status::Completed | Status::Failed | Status::Cancelled => {
                State::Ended(Box::new(self.ended(status)?))
            }
        })
    }

    fn working(&self) -> Result<Working, Error> {
        let task = self
            .task_id
            .as_deref()
            .map(|task| RemoteTaskId(task.into()));
        let phase = match present("phase", self.phase.as_deref())? {
            PHASE_DISPATCHED => Phase::Dispatched {
                trouble: trouble(self.failures, self.failing_since)?,
            },
            PHASE_RECEIVED => Phase::Received { task },
            PHASE_IN_PROGRESS => Phase::InProgress { task },
            other => return Err(unreadable("phase", other)),
        };
        Ok(Working {
            phase,
            heard_at: present("last_heartbeat", self.last_heartbeat)?.into(),
            progress: self.progress()?,
            input: self.input()?,
        })
    }

    fn progress(&self) -> Result<Option<Progress>, Error> {
        let percent = self.progress_percent;
        let percent = percent.map(|percent| small("progress_percent", percent));
        let progress = Progress {
            message: self.progress_message.as_deref().map(Into::into),
            percent: percent.transpose()?,
        };
        Ok(Some(progress).filter(|progress| *progress != Progress::default()))
    }

    fn input(&self) -> Result<Option<Input>, Error> {
        let Some(text) = self.input.as_deref() else {
            return Ok(None);
        };
        let question = present("question", self.question.as_deref())?.into();
        let message = self.input_message.as_deref();
        let answer = Box::new(Said {
            text: text.into(),
            message: message.map(|json| Json(json.into())),
        });
        Ok(Some(Input { question, answer }))
    }

    fn ended(self, status: Status) -> Result<Ended, Error> {
        let ending = if status == Status::Completed {
            Ending::Completed {
                text: present("result_text", self.result_text)?.into(),
            }
        } else {
            let detail: Arc<str> = present("error_detail", self.error_detail)?.into();
            if status == Status::Cancelled {
                Ending::Cancelled { reason: detail }
            } else {
                let class = present("error_class", self.error_class)?;
                let class = word("error_class", &class, ErrorClass::parse)?;
                Ending::Failed { class, detail }
            }
        };
        let late = match (self.late_result, self.late_result_at) {
            (Some(text), Some(at)) => Some(LateResult {
                text: text.into(),
                at: at.into(),
            }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(unreadable("late_result_at", "one of two"));
            }
        };
        Ok(Ended {
            ending,
            at: present("ended_at", self.ended_at)?.into(),
            late,
        })
    }
}
