//! What people look at, from rows.

use diesel::prelude::{Queryable, Selectable};

use super::fragments::{ResultHead, TaskHead};
use super::life::{count, head, word};
use super::schema::{delegations, workspaces};
use super::types::{Id, Ts};
use super::{DelegationLine, Error, Face, Line, LiveMark, Relative};
use crate::domain::{
    Attempt, DelegationId, DelegationKey, DeliveryMode, Position, Progress, Status, WaitingFor,
    WorkspaceId, WorkspaceStatus,
};

pub(crate) fn key_of(caller: Id, id: &str) -> DelegationKey {
    DelegationKey {
        caller: WorkspaceId(caller.0),
        id: DelegationId::from_text(id),
    }
}

fn waiting_for(text: Option<&str>) -> Result<Option<WaitingFor>, Error> {
    text.map(|text| word("waiting_for", text, WaitingFor::parse))
        .transpose()
}

/// A workspace of the picture, as read.
#[derive(Queryable, Selectable, Debug)]
#[diesel(table_name = workspaces)]
pub(crate) struct FaceRow {
    id: Id,
    name: String,
    role: Option<String>,
    parent_id: Option<Id>,
    status: String,
    delivery_mode: String,
    active_tasks: i32,
    max_concurrent_tasks: i32,
    current_task: Option<String>,
    last_heartbeat_at: Option<Ts>,
    created_at: Ts,
}

impl FaceRow {
    pub(crate) fn read(self) -> Result<Face, Error> {
        Ok(Face {
            id: WorkspaceId(self.id.0),
            name: self.name,
            role: self.role,
            parent: self.parent_id.map(|id| WorkspaceId(id.0)),
            status: word("status", &self.status, WorkspaceStatus::parse)?,
            delivery_mode: word("delivery_mode", &self.delivery_mode, DeliveryMode::parse)?,
            active_tasks: self.active_tasks,
            max_concurrent_tasks: self.max_concurrent_tasks,
            current_task: self.current_task,
            last_heartbeat_at: self.last_heartbeat_at.map(Into::into),
            created_at: self.created_at.into(),
        })
    }
}

/// A live delegation: caller, id, target, status, what it waits for.
pub(crate) type MarkTuple = (Id, String, Option<Id>, String, Option<String>);

pub(crate) fn read_mark((caller, id, target, status, waits): MarkTuple) -> Result<LiveMark, Error> {
    Ok(LiveMark {
        key: key_of(caller, &id),
        target: target.map(|id| WorkspaceId(id.0)),
        status: word("status", &status, Status::parse)?,
        waiting_for: waiting_for(waits.as_deref())?,
    })
}

/// A line as read.
#[derive(Queryable, Selectable, Debug)]
#[diesel(table_name = delegations)]
pub(crate) struct LineRow {
    number: i64,
    caller_id: Id,
    delegation_id: String,
    callee_id: Option<Id>,
    #[diesel(select_expression = TaskHead)]
    task_preview: String,
    status: String,
    #[diesel(select_expression = ResultHead)]
    result: Option<String>,
    error_detail: Option<String>,
    error_class: Option<String>,
    last_heartbeat: Option<Ts>,
    deadline: Ts,
    attempt: i32,
    created_at: Ts,
    updated_at: Ts,
    waiting_for: Option<String>,
    next_attempt_at: Option<Ts>,
    failures: Option<i32>,
    ended_at: Option<Ts>,
    question: Option<String>,
    progress_message: Option<String>,
    progress_percent: Option<i32>,
    retry_of: Option<String>,
    parent_caller_id: Option<Id>,
    parent_delegation_id: Option<String>,
}

impl LineRow {
    pub(crate) fn read(self) -> Result<Line, Error> {
        let status = word("status", &self.status, Status::parse)?;
        let failures = self.failures.map(|failures| count("failures", failures));
        let progress = Progress {
            message: self.progress_message.map(Into::into),
            percent: self.progress_percent.and_then(|of| u8::try_from(of).ok()),
        };
        let parent = self.parent_caller_id.zip(self.parent_delegation_id);
        Ok(Line {
            waiting_for: waiting_for(self.waiting_for.as_deref())?,
            next_attempt_at: self.next_attempt_at.map(Into::into),
            failures: failures.transpose()?,
            ended_at: self.ended_at.map(Into::into),
            // An answer that is on its way stands beside its question.
            question: self.question.filter(|_| status == Status::InputRequired),
            progress: Some(progress).filter(|progress| *progress != Progress::default()),
            retry_of: self.retry_of.as_deref().map(DelegationId::from_text),
            parent: parent.map(|(caller, id)| key_of(caller, &id)),
            line: DelegationLine {
                key: key_of(self.caller_id, &self.delegation_id),
                number: Position(self.number),
                target: self.callee_id.map(|id| WorkspaceId(id.0)),
                task_preview: head(&self.task_preview).to_owned(),
                status,
                result_preview: self.result.map(|text| head(&text).to_owned()),
                error_detail: self.error_detail.filter(|detail| !detail.is_empty()),
                error_class: self.error_class,
                last_heartbeat: self.last_heartbeat.map(Into::into),
                deadline: self.deadline.into(),
                attempt: Attempt(count("attempt", self.attempt)?),
                created_at: self.created_at.into(),
                updated_at: self.updated_at.into(),
            },
        })
    }
}

/// A delegation that belongs to another, as read.
#[derive(Queryable, Selectable, Debug)]
#[diesel(table_name = delegations)]
pub(crate) struct RelativeRow {
    caller_id: Id,
    delegation_id: String,
    callee_id: Option<Id>,
    status: String,
    #[diesel(select_expression = TaskHead)]
    task_preview: String,
    created_at: Ts,
}

impl RelativeRow {
    pub(crate) fn read(self) -> Result<Relative, Error> {
        Ok(Relative {
            key: key_of(self.caller_id, &self.delegation_id),
            target: self.callee_id.map(|id| WorkspaceId(id.0)),
            status: word("status", &self.status, Status::parse)?,
            task_preview: self.task_preview,
            created_at: self.created_at.into(),
        })
    }
}
