//! The changes of a batch.

use std::borrow::Cow;

use diesel::sql_types::{Bool, Integer, Nullable, Text};

use super::Statement;
use crate::domain::Advance;
use crate::store::batch::ending_of;
use crate::store::columnar::{Column, columns, seldom_columns};
use crate::store::history::more_history;
use crate::store::life::{LifeColumns, heard_at, id_text, stored_incarnation};
use crate::store::standing::EndColumns;
use crate::store::types::{Id, Ts};

/// A change of a delegation, as the columns that it sets.
pub(super) struct MovedRow<'a> {
    /// Its place among the changes, from one.
    write: i32,
    /// Whether it ends the delegation.
    ends: bool,
    caller_id: Id,
    delegation_id: Cow<'a, str>,
    life: LifeColumns<'a>,
    end: EndColumns<'a>,
    last_heartbeat: Option<Ts>,
    result_raw: Option<&'a [u8]>,
    history: String,
    reply: Option<&'static str>,
    revision: i64,
    incarnation: i32,
    updated_at: Ts,
}

impl<'a> MovedRow<'a> {
    pub(super) fn of(place: usize, advance: &'a Advance) -> Self {
        Self {
            write: from_one(place),
            ends: ending_of(advance).is_some(),
            caller_id: Id(advance.key.caller.0),
            delegation_id: id_text(&advance.key.id),
            life: LifeColumns::of(&advance.life),
            end: EndColumns::of(&advance.life),
            last_heartbeat: heard_at(&advance.life),
            result_raw: advance.raw_reply.as_deref(),
            history: more_history(advance),
            reply: advance.feed.reply.is_some().then_some("written"),
            revision: advance.revision.0,
            incarnation: stored_incarnation(advance.incarnation),
            updated_at: advance.at.into(),
        }
    }
}

/// `PostgreSQL` counts places from one.
pub(super) fn from_one(place: usize) -> i32 {
    i32::try_from(place.saturating_add(1)).unwrap_or(i32::MAX)
}

/// What is kept of a column unless there is news.
const KEPT: &str = ", last_heartbeat = coalesce(v.last_heartbeat, d.last_heartbeat), \
    result_raw = coalesce(v.result_raw, d.result_raw), history = d.history || v.history, \
    reply = coalesce(v.reply, d.reply), \
    given_back_key = CASE v.standing WHEN 'failed' THEN coalesce(d.idempotency_key, d.given_back_key) \
    ELSE d.given_back_key END, \
    idempotency_key = CASE v.standing WHEN 'failed' THEN NULL ELSE d.idempotency_key END";

/// Which delegation a change is of, and how those that ended come to be found as such. They leave the live ones by an
/// array: a join would walk all that lives for each, if it was nearly empty when PostgreSQL last counted it.
const SETTLED: &str = ") AS v WHERE d.caller_id = v.caller_id AND d.delegation_id = v.delegation_id \
    AND d.revision = v.revision - 1 AND d.incarnation <= v.incarnation \
    AND (d.standing = 'live' OR v.standing <> 'live') \
    RETURNING v.write, v.ends, d.number, d.standing, d.caller_id, d.callee_id), \
    given AS (SELECT array_agg(number ORDER BY write) AS numbers FROM moved), \
    gone AS (DELETE FROM delegations_live \
    WHERE number = ANY (ARRAY(SELECT number FROM moved WHERE ends)) RETURNING 1), \
    settled AS (INSERT INTO delegations_ended (number, standing, caller_id, callee_id) \
    SELECT number, standing, caller_id, callee_id FROM moved WHERE ends RETURNING 1)";

/// Moves delegations, no two of them the same. `given.numbers` has their numbers, each at its place among the changes;
/// `gone` and `settled` have a row for each that ended.
pub(super) fn move_on<'a>(
    statement: Statement<'a>,
    rows: &'a [MovedRow<'a>],
    from: &'static str,
) -> Statement<'a> {
    if rows.is_empty() {
        return statement;
    }
    let mut replaced = columns!(
        rows,
        delegations {
            status: life.status,
            attempt: life.attempt,
            task_id: life.task_id,
            phase: life.phase,
            standing: end.standing,
            result_text: end.result_text,
            ended_at: end.ended_at,
            revision: revision,
            incarnation: incarnation,
            updated_at: updated_at,
        }
    );
    replaced.extend(seldom_columns!(
        rows,
        delegations {
            waiting_for: life.waiting_for,
            next_attempt_at: life.next_attempt_at,
            question: life.question,
            input: life.input,
            input_message: life.input_message,
            failures: life.failures,
            failing_since: life.failing_since,
            progress_message: life.progress_message,
            progress_percent: life.progress_percent,
            error_class: end.error_class,
            error_detail: end.error_detail,
            late_result: end.late_result,
            late_result_at: end.late_result_at,
        }
    ));
    let others = columns!(
        rows,
        delegations {
            caller_id: caller_id,
            delegation_id: delegation_id,
            last_heartbeat: last_heartbeat,
            result_raw: result_raw,
            history: history,
        }
    );
    let reply = Column::new::<Nullable<Text>, _>("reply", rows.iter().map(|row| row.reply));
    let write = Column::new::<Integer, _>("write", rows.iter().map(|row| row.write));
    let ends = Column::new::<Bool, _>("ends", rows.iter().map(|row| row.ends));
    statement
        .text(", moved AS (UPDATE delegations AS d SET ")
        .changes(&replaced)
        .text(KEPT)
        .text(from)
        .rows(
            replaced
                .into_iter()
                .chain(others)
                .chain([reply, write, ends]),
        )
        .text(SETTLED)
}
