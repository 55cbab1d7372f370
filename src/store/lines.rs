//! Delegations as people and agents see them, from rows.

use super::canvas::key_of;
use super::history::read_history;
use super::life::{LoadedRow, count, head, word};
use super::types::{Id, Ts};
use super::{AuditLimits, DelegationFilter, DelegationLine, DelegationView, Error, Parties};
use crate::domain::{
    Attempt, Audited, DelegationId, DelegationKey, Position, Status, Timestamp, WorkspaceId,
};

/// Which numbers the indexes are asked for, the newest first.
#[derive(Clone, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) parties: Parties,
    /// All when empty.
    pub(crate) statuses: &'a [Status],
    pub(crate) before: Option<Position>,
    pub(crate) older_than: Option<Timestamp>,
    pub(crate) limit: i64,
}

impl<'a> From<&'a DelegationFilter> for Look<'a> {
    fn from(filter: &'a DelegationFilter) -> Self {
        Self {
            parties: filter.party.map_or(Parties::Any, Parties::Either),
            statuses: &filter.statuses,
            before: filter.before,
            older_than: filter.older_than,
            limit: filter.limit,
        }
    }
}

/// The whole of a delegation: row, task preview, `retry_of`, parent, last change, history, raw reply.
pub(crate) type ViewTuple = (
    LoadedRow,
    String,
    Option<String>,
    (Option<Id>, Option<String>),
    Ts,
    String,
    Option<Vec<u8>>,
);

pub(crate) fn read_view(row: ViewTuple) -> Result<DelegationView, Error> {
    let (
        loaded,
        task_preview,
        retry_of,
        (parent_caller, parent_id),
        updated_at,
        history,
        raw_reply,
    ) = row;
    let parent = parent_caller.zip(parent_id);
    Ok(DelegationView {
        loaded: loaded.read()?,
        task_preview,
        retry_of: retry_of.as_deref().map(DelegationId::from_text),
        parent: parent.map(|(caller, id)| key_of(caller, &id)),
        updated_at: updated_at.into(),
        history: read_history(&history)?,
        raw_reply,
    })
}

/// One line of a list: who and what, how it went, when.
pub(crate) type LineTuple = (
    (Id, String, Option<Id>, String, String),
    (Option<String>, Option<String>, Option<String>, Option<Ts>),
    (Ts, i32, Ts, Ts),
    i64,
);

pub(crate) fn read_line(row: LineTuple) -> Result<DelegationLine, Error> {
    let (
        (caller, id, target, task_preview, status),
        (result, error_detail, error_class, last_heartbeat),
        (deadline, attempt, created_at, updated_at),
        number,
    ) = row;
    Ok(DelegationLine {
        key: DelegationKey {
            caller: WorkspaceId(caller.0),
            id: DelegationId::from_text(&id),
        },
        number: Position(number),
        target: target.map(|id| WorkspaceId(id.0)),
        task_preview,
        status: word("status", &status, Status::parse)?,
        result_preview: result.map(|text| head(&text).to_owned()),
        error_detail: error_detail.filter(|detail| !detail.is_empty()),
        error_class,
        last_heartbeat: last_heartbeat.map(Into::into),
        deadline: deadline.into(),
        attempt: Attempt(count("attempt", attempt)?),
        created_at: created_at.into(),
        updated_at: updated_at.into(),
    })
}

/// Which places come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// The lower.
    OldestFirst,
    /// The higher.
    NewestFirst,
}

/// The first places of what several indexes gave, each once.
pub(crate) fn merged(mut places: Vec<i64>, limit: i64, order: Order) -> Vec<i64> {
    places.sort_unstable();
    places.dedup();
    if order == Order::NewestFirst {
        places.reverse();
    }
    places.truncate(usize::try_from(limit).unwrap_or(0));
    places
}

/// A delegation under audit: which, its status and end, whether lists find it, then its result rows, replies, reply state
/// and deadline.
pub(crate) type AuditTuple = (
    (Id, String, String, Option<Ts>, bool),
    (i64, i64, String, Ts),
);

pub(crate) fn read_audited(row: AuditTuple, limits: AuditLimits) -> Result<Audited, Error> {
    let ((caller, id, status, ended_at, is_listed), (result_rows, replies, reply, deadline)) = row;
    Ok(Audited {
        key: DelegationKey {
            caller: WorkspaceId(caller.0),
            id: DelegationId::from_text(&id),
        },
        status: word("status", &status, Status::parse)?,
        has_end_time: ended_at.is_some(),
        is_listed,
        result_rows,
        replies,
        reply_promised: reply != "none",
        reply_owed: reply == "owed",
        overdue: Timestamp::from(deadline) < limits.overdue_before,
        prunable: ended_at.is_some_and(|at| Timestamp::from(at) < limits.pruned_before),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_indexes_gave_is_one_list() {
        let parts = || vec![9, 4, 1, 8, 4, 2];
        assert_eq!(merged(parts(), 3, Order::NewestFirst), [9, 8, 4]);
        assert_eq!(merged(parts(), 4, Order::OldestFirst), [1, 2, 4, 8]);
        assert_eq!(merged(parts(), 0, Order::OldestFirst), [0; 0]);
        assert_eq!(merged(vec![], 5, Order::NewestFirst), [0; 0]);
    }
}
