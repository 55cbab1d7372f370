//! Many writes of delegations in a few statements (`PostgreSQL`, where each statement costs a round trip and more).

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};

use super::Error;
use super::batch::{Batch, Endings};
use super::columnar::{Columnar, array, arrays, value};
use super::history::{history_entry, history_json, is_kept};
use super::life::{LifeColumns, NewRow, heard_at, id_text, stored_incarnation, stored_key};
use super::rows::{ActivityRow, EventRow};
use super::standing::EndColumns;
use super::telling::CHANNEL;
use super::types::{DbUuid, Id, J, Ts};
use crate::domain::{Accept, Advance, Life, NodeId, Position};

/// The number of a write within its batch.
pub(crate) type Number = usize;

fn stored(number: Number) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A change of a delegation, as the columns that it sets.
struct MovedRow<'a> {
    number: i32,
    caller_id: Id,
    delegation_id: std::borrow::Cow<'a, str>,
    life: LifeColumns<'a>,
    end: EndColumns<'a>,
    last_heartbeat: Option<Ts>,
    result_raw: Option<&'a [u8]>,
    entry: J,
    reply: Option<&'static str>,
    revision: i64,
    incarnation: i32,
    updated_at: Ts,
}

impl<'a> MovedRow<'a> {
    fn of(number: Number, advance: &'a Advance) -> Self {
        let entry = is_kept(advance).then(|| history_entry(&advance.life, advance.at));
        Self {
            number: stored(number),
            caller_id: Id(advance.key.caller.0),
            delegation_id: id_text(&advance.key.id),
            life: LifeColumns::of(&advance.life),
            end: EndColumns::of(&advance.life),
            last_heartbeat: heard_at(&advance.life),
            result_raw: advance.raw_reply.as_deref(),
            // Of an array, an object is appended as an element, and of an empty array nothing is.
            entry: entry.map_or_else(|| J("[]".into()), |entry| history_json(&entry)),
            reply: advance.feed.reply.is_some().then_some("written"),
            revision: advance.revision.0,
            incarnation: stored_incarnation(advance.incarnation),
            updated_at: advance.at.into(),
        }
    }
}

const MOVE: &str = "UPDATE delegations AS d SET status = v.status, attempt = v.attempt, \
    waiting_for = v.waiting_for, next_attempt_at = v.next_attempt_at, task_id = v.task_id, phase = v.phase, \
    question = v.question, input = v.input, failures = v.failures, failing_since = v.failing_since, \
    progress_message = v.progress_message, progress_percent = v.progress_percent, result_text = v.result_text, \
    standing = v.standing, error_class = v.error_class, error_detail = v.error_detail, late_result = v.late_result, \
    late_result_at = v.late_result_at, ended_at = v.ended_at, \
    last_heartbeat = coalesce(v.last_heartbeat, d.last_heartbeat), result_raw = coalesce(v.result_raw, d.result_raw), \
    history = d.history || v.entry, revision = v.revision, incarnation = v.incarnation, updated_at = v.updated_at, \
    reply = coalesce(v.reply, d.reply) FROM unnest(";
const MOVED: &str = ") AS v (caller_id, delegation_id, status, attempt, waiting_for, next_attempt_at, task_id, phase, \
    question, input, failures, failing_since, progress_message, progress_percent, result_text, error_class, error_detail, \
    late_result, late_result_at, ended_at, last_heartbeat, result_raw, entry, revision, incarnation, updated_at, \
    standing, reply, number) WHERE d.caller_id = v.caller_id AND d.delegation_id = v.delegation_id AND d.revision = v.revision - 1 \
    AND d.incarnation <= v.incarnation AND (d.standing = 'live' OR v.standing <> 'live') RETURNING v.number, d.number";

/// Moves delegations, no two of them the same. Answers with those that were at the revision before, by the number of
/// the write, each with its own.
pub(crate) fn advance(
    conn: &mut PgConnection,
    advances: &[(Number, &Advance)],
) -> Result<HashMap<Number, Position>, Error> {
    let rows: Vec<MovedRow<'_>> = advances
        .iter()
        .map(|(number, advance)| MovedRow::of(*number, advance))
        .collect();
    let mut columns = arrays!(
        rows,
        delegations {
            caller_id: caller_id,
            delegation_id: delegation_id,
            status: life.status,
            attempt: life.attempt,
            waiting_for: life.waiting_for,
            next_attempt_at: life.next_attempt_at,
            task_id: life.task_id,
            phase: life.phase,
            question: life.question,
            input: life.input,
            failures: life.failures,
            failing_since: life.failing_since,
            progress_message: life.progress_message,
            progress_percent: life.progress_percent,
            result_text: end.result_text,
            error_class: end.error_class,
            error_detail: end.error_detail,
            late_result: end.late_result,
            late_result_at: end.late_result_at,
            ended_at: end.ended_at,
            last_heartbeat: last_heartbeat,
            result_raw: result_raw,
            history: entry,
            revision: revision,
            incarnation: incarnation,
            updated_at: updated_at,
            standing: end.standing,
        }
    );
    columns.push(array::<Nullable<Text>, _>(rows.iter().map(|row| row.reply)));
    columns.push(array::<Integer, _>(rows.iter().map(|row| row.number)));
    let moved: Vec<(i32, i64)> = Columnar::<(Integer, BigInt)>::new()
        .then(MOVE, columns)
        .then(MOVED, vec![])
        .load(conn)?;
    let read = |(write, number)| Some((Number::try_from(write).ok()?, Position(number)));
    Ok(moved.into_iter().filter_map(read).collect())
}

fn numbers(stored: Vec<i32>) -> HashSet<Number> {
    stored
        .into_iter()
        .filter_map(|number| Number::try_from(number).ok())
        .collect()
}

const KEYS: &str = "SELECT v.number FROM unnest(";
const KEYS_USED: &str = ") AS v (caller_id, idempotency_key, number) \
    WHERE EXISTS (SELECT 1 FROM delegations WHERE delegations.caller_id = v.caller_id \
        AND delegations.idempotency_key = v.idempotency_key \
        AND delegations.idempotency_key IS NOT NULL AND delegations.standing <> 'failed') \
    OR EXISTS (SELECT 1 FROM delegations WHERE delegations.caller_id = v.caller_id \
        AND delegations.idempotency_key = v.idempotency_key \
        AND delegations.idempotency_key IS NOT NULL AND delegations.standing = 'failed')";

/// The numbers of those whose key was used before: what that means is to be found out one by one.
fn used_keys(
    conn: &mut PgConnection,
    accepts: &[(Number, &Accept)],
) -> Result<HashSet<Number>, Error> {
    let keyed: Vec<_> = accepts
        .iter()
        .filter_map(|(number, accept)| {
            let key = accept.delegation.idempotency.as_ref()?;
            let caller = Id(accept.delegation.terms.key.caller.0);
            Some((caller, stored_key(&key.key), stored(*number)))
        })
        .collect();
    if keyed.is_empty() {
        return Ok(HashSet::new());
    }
    let columns = vec![
        array::<DbUuid, _>(keyed.iter().map(|(caller, ..)| caller)),
        array::<Text, _>(keyed.iter().map(|(_, key, _)| key)),
        array::<Integer, _>(keyed.iter().map(|(.., number)| number)),
    ];
    let used: Vec<i32> = Columnar::<Integer>::new()
        .then(KEYS, columns)
        .then(KEYS_USED, vec![])
        .load(conn)?;
    Ok(numbers(used))
}

const BEGIN: &str = "INSERT INTO delegations (number, standing, caller_id, delegation_id, callee_id, task, task_preview, origin, \
    redelivery, priority, status, attempt, waiting_for, next_attempt_at, phase, last_heartbeat, deadline, retry_of, \
    idempotency_key, fingerprint, traceparent, history, reply, revision, incarnation, lease_owner, created_at, \
    updated_at) SELECT * FROM unnest(";
const BEGUN: &str = ") ON CONFLICT DO NOTHING RETURNING number";

/// Begins delegations, no two of them of the same id. Answers with the numbers of those that began; the others met
/// something that was there before.
pub(crate) fn accept(
    conn: &mut PgConnection,
    accepts: &[(Number, &Accept)],
    batch: &Batch<'_>,
) -> Result<HashSet<Number>, Error> {
    let used = used_keys(conn, accepts)?;
    let lives: Vec<(Number, &Accept, Life)> = accepts
        .iter()
        .filter(|(number, accept)| !used.contains(number) && begins_plainly(accept))
        .map(|(number, accept)| (*number, *accept, Life::new(accept.delegation.state.clone())))
        .collect();
    if lives.is_empty() {
        return Ok(HashSet::new());
    }
    let retries: Vec<_> = lives
        .iter()
        .map(|(_, accept, _)| accept.delegation.retry_of.as_ref().map(id_text))
        .collect();
    let rows: Vec<NewRow<'_>> = lives
        .iter()
        .zip(&retries)
        .map(|((number, accept, life), retry_of)| {
            let number = batch.number_of(*number);
            NewRow::of(number, accept, life, retry_of.as_deref(), batch.node)
        })
        .collect();
    let columns = arrays!(
        rows,
        delegations {
            number: number,
            standing: end.standing,
            caller_id: caller_id,
            delegation_id: delegation_id,
            callee_id: callee_id,
            task: task,
            task_preview: task_preview,
            origin: origin,
            redelivery: redelivery,
            priority: priority,
            status: life.status,
            attempt: life.attempt,
            waiting_for: life.waiting_for,
            next_attempt_at: life.next_attempt_at,
            phase: life.phase,
            last_heartbeat: last_heartbeat,
            deadline: deadline,
            retry_of: retry_of,
            idempotency_key: idempotency_key,
            fingerprint: fingerprint,
            traceparent: traceparent,
            history: history,
            reply: reply,
            revision: revision,
            incarnation: incarnation,
            lease_owner: lease_owner,
            created_at: created_at,
            updated_at: updated_at,
        }
    );
    let begun: Vec<i64> = Columnar::<BigInt>::new()
        .then(BEGIN, columns)
        .then(BEGUN, vec![])
        .load(conn)?;
    let begun: HashSet<i64> = begun.into_iter().collect();
    let writes = lives.iter().map(|(write, ..)| *write);
    Ok(writes
        .filter(|write| begun.contains(&batch.number_of(*write).0))
        .collect())
}

/// Whether its row says nothing in the columns that only later changes fill in.
const fn begins_plainly(accept: &Accept) -> bool {
    use crate::domain::State;
    match &accept.delegation.state {
        State::Pending | State::Working(_) | State::Queued(_) => true,
        State::Stuck(_) | State::InputRequired(_) | State::Ended(_) => false,
    }
}

const PLACES: &str = "WITH own AS (SELECT id FROM nodes WHERE id = holder AND id = ";
const TAKEN: &str = " FOR SHARE) UPDATE feed_position AS p SET last = p.last + ";
const LAST: &str = " FROM own WHERE p.id = 1 RETURNING p.last";

/// Proves the lease and takes this many places, in one statement. None when the lease is lost.
pub(crate) fn take_places(
    conn: &mut PgConnection,
    node: NodeId,
    number: i64,
) -> Result<Option<i64>, Error> {
    Ok(Columnar::<BigInt>::new()
        .then(PLACES, vec![value::<DbUuid, _>(Id(node.0))])
        .then(TAKEN, vec![value::<BigInt, _>(number)])
        .then(LAST, vec![])
        .get_result(conn)
        .optional()?)
}

const ROWS: &str = "WITH feed AS (INSERT INTO activity_logs (id, seq, workspace_id, activity_type, source_id, target_id, \
    method, summary, request_body, response_body, duration_ms, status, error_detail, delegation_id, created_at, \
    delegation_number) SELECT * FROM unnest(";
const EVENTS: &str = ")), events AS (INSERT INTO structure_events (id, seq, event_type, workspace_id, payload, \
    created_at) SELECT * FROM unnest(";
const COUNTED: &str = ")), totals (completed, failed, cancelled) AS (VALUES (";
const TOLD: &str = ")), counted AS (UPDATE feed_position AS p SET completed = p.completed + t.completed, \
    failed = p.failed + t.failed, cancelled = p.cancelled + t.cancelled FROM totals AS t \
    WHERE p.id = 1 AND t.completed + t.failed + t.cancelled > 0) SELECT pg_notify(";
// Whoever joins waits for the lock that this batch holds: one that is not there yet will read what this batch writes. One
// that was taken over may live on for a moment, and is told as long as it is remembered.
const SHOWN: &str = ") IS NULL FROM nodes AS n WHERE n.id <> ";
const OTHERS: &str = " AND n.expires_at > n.started_at LIMIT 1";

/// Stores what is shown, counts what ended, and tells the other nodes, if there are any.
pub(crate) fn show(
    conn: &mut PgConnection,
    rows: &[ActivityRow<'_>],
    events: &[EventRow],
    endings: Endings,
    own: NodeId,
    payload: &str,
) -> Result<(), Error> {
    let of_rows = arrays!(
        rows,
        activity_logs {
            id: id,
            seq: seq,
            workspace_id: workspace_id,
            activity_type: activity_type,
            source_id: source_id,
            target_id: target_id,
            method: method,
            summary: summary,
            request_body: request_body,
            response_body: response_body,
            duration_ms: duration_ms,
            status: status,
            error_detail: error_detail,
            delegation_id: delegation_id,
            created_at: created_at,
            delegation_number: delegation_number,
        }
    );
    let of_events = arrays!(
        events,
        structure_events {
            id: id,
            seq: seq,
            event_type: event_type,
            workspace_id: workspace_id,
            payload: payload,
            created_at: created_at,
        }
    );
    let Endings {
        completed,
        failed,
        cancelled,
    } = endings;
    let counted = vec![
        value::<BigInt, _>(completed),
        value::<BigInt, _>(failed),
        value::<BigInt, _>(cancelled),
    ];
    let told = vec![value::<Text, _>(CHANNEL), value::<Text, _>(payload)];
    let _told: Option<bool> = Columnar::<Bool>::new()
        .then(ROWS, of_rows)
        .then(EVENTS, of_events)
        .then(COUNTED, counted)
        .then(TOLD, told)
        .then(SHOWN, vec![value::<DbUuid, _>(Id(own.0))])
        .then(OTHERS, vec![])
        .get_result(conn)
        .optional()?;
    Ok(())
}
