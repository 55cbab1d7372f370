//! Receivers as rows, and back.

use std::borrow::Cow;

use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};

use super::Error;
use super::life::{id_text, word};
use super::schema::push_receivers;
use super::types::{Id, Ts};
use crate::domain::{
    Course, DelegationId, NodeId, Position, Receiver, ReceiverId, ReceiverState, WorkspaceId,
    sanitize,
};

fn owned(text: &str) -> String {
    sanitize(text).into_owned()
}

/// A receiver, written and read.
#[derive(Queryable, Selectable, Insertable, Debug)]
#[diesel(table_name = push_receivers, treat_none_as_default_value = false)]
pub(crate) struct ReceiverRow {
    id: Id,
    workspace_id: Id,
    delegation_id: Option<String>,
    config_id: String,
    url: String,
    scheme: Option<String>,
    old_form: bool,
    sealed: Option<Vec<u8>>,
    state: String,
    position: i64,
    failures: i32,
    failing_since: Option<Ts>,
    next_attempt_at: Option<Ts>,
    last_error: Option<String>,
    lease_owner: Id,
    created_at: Ts,
}

impl From<&Receiver> for ReceiverRow {
    fn from(receiver: &Receiver) -> Self {
        let course = &receiver.course;
        Self {
            id: Id(receiver.id.0),
            workspace_id: Id(receiver.workspace.0),
            delegation_id: receiver
                .delegation
                .as_ref()
                .map(|id| id_text(id).into_owned()),
            config_id: owned(&receiver.config),
            url: owned(&receiver.url),
            scheme: receiver.scheme.as_deref().map(owned),
            old_form: receiver.old_form,
            sealed: receiver.sealed.as_deref().map(<[u8]>::to_vec),
            state: course.state.as_str().to_owned(),
            position: course.position.0,
            failures: i32::try_from(course.failures).unwrap_or(i32::MAX),
            failing_since: course.failing_since.map(Ts::from),
            next_attempt_at: course.next_attempt_at.map(Ts::from),
            last_error: course.last_error.as_deref().map(owned),
            lease_owner: Id(receiver.node.0),
            created_at: receiver.created_at.into(),
        }
    }
}

impl ReceiverRow {
    pub(crate) fn read(self) -> Result<Receiver, Error> {
        Ok(Receiver {
            id: ReceiverId(self.id.0),
            workspace: WorkspaceId(self.workspace_id.0),
            delegation: self.delegation_id.as_deref().map(DelegationId::from_text),
            config: self.config_id.into(),
            url: self.url.into(),
            scheme: self.scheme.map(Into::into),
            old_form: self.old_form,
            sealed: self.sealed.map(Into::into),
            course: Course {
                state: word("state", &self.state, ReceiverState::parse)?,
                position: Position(self.position),
                failures: u32::try_from(self.failures).unwrap_or(0),
                failing_since: self.failing_since.map(Into::into),
                next_attempt_at: self.next_attempt_at.map(Into::into),
                last_error: self.last_error.map(Into::into),
            },
            node: NodeId(self.lease_owner.0),
            created_at: self.created_at.into(),
        })
    }
}

/// How far one was told.
#[derive(AsChangeset, Debug)]
#[diesel(table_name = push_receivers, treat_none_as_null = true)]
pub(crate) struct CourseRow<'a> {
    state: &'static str,
    position: i64,
    failures: i32,
    failing_since: Option<Ts>,
    next_attempt_at: Option<Ts>,
    last_error: Option<Cow<'a, str>>,
}

impl<'a> From<&'a Course> for CourseRow<'a> {
    fn from(course: &'a Course) -> Self {
        Self {
            state: course.state.as_str(),
            position: course.position.0,
            failures: i32::try_from(course.failures).unwrap_or(i32::MAX),
            failing_since: course.failing_since.map(Ts::from),
            next_attempt_at: course.next_attempt_at.map(Ts::from),
            last_error: course.last_error.as_deref().map(sanitize),
        }
    }
}
