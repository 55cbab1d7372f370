//! Many writes of delegations, and all that tells of them, in one statement (`PostgreSQL`, where each statement costs a
//! round trip and more). It takes the places, moves, begins, shows, counts and tells, or does nothing at all.

mod moves;

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text};

use moves::{MovedRow, from_one, move_on};

use super::Error;
use super::batch::{Batch, Endings, Item, Run};
use super::columnar::{Column, Columnar, columns, seldom_columns};
use super::life::{NewRow, id_text};
use super::rows::{ActivityRow, EventRow};
use super::telling::CHANNEL;
use super::types::{DbUuid, Id};
use crate::domain::{ActivityType, Life, NodeId, Position, WorkspaceId};

/// The place before the first, how many nodes there are, one when all of it is stored, whether others were told, and whose
/// inboxes are acknowledged how far.
type Answer = (
    BigInt,
    Integer,
    Integer,
    Nullable<Bool>,
    Nullable<Array<DbUuid>>,
    Nullable<Array<BigInt>>,
);
type Answered = (
    i64,
    i32,
    i32,
    Option<bool>,
    Option<Vec<Id>>,
    Option<Vec<i64>>,
);
type Statement<'a> = Columnar<'a, Answer>;

/// Which places the batch gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Places {
    /// It has them: its positions are as they stand.
    Taken,
    /// This many, taken by the statement itself: its positions count from the first. The node's lease is proved, too.
    Take(i64),
    /// The same, but taken only once delegations have moved, so that two batches of one node can do that side by side. It
    /// might wait for one that takes its places first and wants the same delegation: no other node may be there.
    TakeLate(i64),
}

/// What is known of a batch that is stored.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The place before its first.
    pub(crate) before: Position,
    /// Whether this node is the only one.
    pub(crate) alone: bool,
    /// How far the inboxes of the run are acknowledged.
    pub(crate) acked: HashMap<WorkspaceId, Position>,
}

/// Stores a batch whose run is all of it that is not stored yet. None when the lease is lost.
///
/// # Errors
/// [`Error::Refused`] when any of it cannot be stored as it is, be it that a delegation has moved on: nothing was stored.
pub(crate) fn write(
    conn: &mut PgConnection,
    run: &Run<'_>,
    batch: &Batch<'_>,
    places: Places,
    payload: Option<&str>,
) -> Result<Option<Stored>, Error> {
    let lives: Vec<Life> = run
        .accepts
        .iter()
        .map(|(_, accept)| accept.life())
        .collect();
    let begun: Vec<NewRow<'_>> = run
        .accepts
        .iter()
        .zip(&lives)
        .map(|((write, accept), life)| {
            let retry_of = accept.delegation.retry_of.as_ref().map(id_text);
            NewRow::of(batch.number_of(*write), accept, life, retry_of, batch.node)
        })
        .collect();
    let moved: Vec<MovedRow<'_>> = run
        .advances
        .iter()
        .enumerate()
        .map(|(place, (_, advance))| MovedRow::of(place, advance))
        .collect();
    let shown = Shown::of(run, batch);
    let statement = match places {
        Places::Taken => Columnar::new("WITH own AS (SELECT 1)"),
        Places::Take(_) | Places::TakeLate(_) => prove(batch.node),
    };
    let late = matches!(places, Places::TakeLate(_)) && !moved.is_empty();
    let statement = if late {
        let statement = move_on(statement, &moved, " FROM own, (SELECT ");
        let after = " FROM own, (SELECT (SELECT count(*) FROM gone) AS gone, \
             (SELECT count(*) FROM settled) AS settled) AS m WHERE m.gone = m.settled AND p.id = 1";
        take(statement, places, batch.endings, after)
    } else {
        let statement = take(statement, places, batch.endings, " FROM own WHERE p.id = 1");
        move_on(statement, &moved, " FROM place, (SELECT ")
    };
    let statement = begin(statement, &begun);
    let statement = acknowledge(statement, &run.acks);
    let statement = show(statement, &shown, !moved.is_empty());
    let stored: Option<Answered> = judge(statement, run, &begun, batch.endings, payload)
        .get_result(conn)
        .optional()?;
    Ok(stored.map(|(before, nodes, _, _, inboxes, acked)| Stored {
        before: Position(before),
        alone: nodes <= 1,
        acked: inboxes
            .into_iter()
            .flatten()
            .map(|inbox| WorkspaceId(inbox.0))
            .zip(acked.into_iter().flatten().map(Position))
            .collect(),
    }))
}

/// Until the transaction ends, nobody can take over from a node that is proved to be one.
fn prove<'a>(node: NodeId) -> Statement<'a> {
    Columnar::new("WITH own AS (SELECT id FROM nodes WHERE id = holder AND id = ")
        .value::<DbUuid, _>(Id(node.0), " FOR SHARE)")
}

fn take<'a>(
    statement: Statement<'a>,
    places: Places,
    endings: Endings,
    from: &'static str,
) -> Statement<'a> {
    let number = match places {
        Places::Taken => 0,
        Places::Take(number) | Places::TakeLate(number) => number,
    };
    let statement = statement
        .text(", place AS (UPDATE feed_position AS p SET last = p.last + ")
        .value::<BigInt, _>(number, ", completed = p.completed + ")
        .value::<BigInt, _>(endings.completed, ", failed = p.failed + ")
        .value::<BigInt, _>(endings.failed, ", cancelled = p.cancelled + ")
        .value::<BigInt, _>(endings.cancelled, from);
    match places {
        Places::Taken => statement.text(" RETURNING 0::bigint AS before, p.nodes)"),
        Places::Take(number) | Places::TakeLate(number) => {
            statement
                .text(" RETURNING p.last - ")
                .value::<BigInt, _>(number, " AS before, p.nodes)")
        }
    }
}

/// Begins delegations, no two of them of the same id; all of them live.
fn begin<'a>(statement: Statement<'a>, rows: &'a [NewRow<'a>]) -> Statement<'a> {
    if rows.is_empty() {
        return statement;
    }
    let numbers = rows.iter().map(|row| row.number);
    let number = Column::new::<BigInt, _>("number", numbers).within("place.before + ", "");
    let others = columns!(
        rows,
        delegations {
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
            phase: life.phase,
            last_heartbeat: last_heartbeat,
            deadline: deadline,
            history: history,
            reply: reply,
            revision: revision,
            incarnation: incarnation,
            lease_owner: lease_owner,
            created_at: created_at,
            updated_at: updated_at,
        }
    );
    let seldom = seldom_columns!(
        rows,
        delegations {
            waiting_for: life.waiting_for,
            next_attempt_at: life.next_attempt_at,
            retry_of: retry_of,
            idempotency_key: idempotency_key,
            fingerprint: fingerprint,
            traceparent: traceparent,
            message: message,
            context_id: context_id,
            parent_caller_id: parent_caller_id,
            parent_delegation_id: parent_delegation_id,
        }
    );
    let all: Vec<Column<'_>> = [number].into_iter().chain(others).chain(seldom).collect();
    statement
        .text(", begun AS (INSERT INTO delegations (")
        .names(&all)
        .text(") SELECT ")
        .rows(all)
        .text(
            " FROM place RETURNING number, lease_owner, caller_id, callee_id), \
             lives AS (INSERT INTO delegations_live (number, lease_owner, caller_id, callee_id) \
             SELECT number, lease_owner, caller_id, callee_id FROM begun)",
        )
}

/// Moves the acknowledged positions of inboxes up, each clamped to what its feed holds.
fn acknowledge<'a>(
    statement: Statement<'a>,
    acks: &[(usize, WorkspaceId, Position)],
) -> Statement<'a> {
    if acks.is_empty() {
        return statement;
    }
    let inboxes = acks.iter().map(|(_, workspace, _)| Id(workspace.0));
    let upto = acks.iter().map(|(.., upto)| upto.0);
    let columns = [
        Column::new::<DbUuid, _>("workspace_id", inboxes),
        Column::new::<BigInt, _>("upto", upto),
    ];
    let mut statement = statement.text(
        ", acked AS (INSERT INTO inbox_delivery_state AS i (workspace_id, last_acked_seq, updated_at) \
         SELECT v.workspace_id, greatest(least(v.upto, n.newest), 0), now() FROM place, (SELECT ",
    );
    statement = statement
        .rows(columns)
        .text(") AS v, LATERAL (SELECT coalesce(max(newest), 0) AS newest FROM (");
    for (place, word) in ActivityType::ALL.iter().enumerate() {
        statement = statement
            .text(if place > 0 { " UNION ALL " } else { "" })
            .text("SELECT max(seq) AS newest FROM activity_logs AS l WHERE l.activity_type = '")
            .text(word.as_str())
            .text("' AND l.workspace_id = v.workspace_id");
    }
    statement.text(
        ") AS of_types) AS n ON CONFLICT (workspace_id) DO UPDATE SET \
         updated_at = CASE WHEN i.last_acked_seq < excluded.last_acked_seq THEN now() ELSE i.updated_at END, \
         last_acked_seq = greatest(i.last_acked_seq, excluded.last_acked_seq) \
         RETURNING workspace_id, last_acked_seq)",
    )
}

/// What appears in feeds and as events.
struct Shown<'a> {
    rows: Vec<ActivityRow<'a>>,
    /// Of which change each row tells, by its place; none for rows that bear no number.
    of: Vec<Option<i32>>,
    events: Vec<EventRow>,
}

impl<'a> Shown<'a> {
    fn of(run: &Run<'_>, batch: &Batch<'a>) -> Self {
        let (mut rows, mut of, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for (write, position, item) in batch.placed() {
            match item {
                Item::Row(row, number)
                | Item::Reply(row, _, number)
                | Item::Owed(row, _, number) => {
                    let row = ActivityRow::of(row, number, position);
                    of.push(
                        row.tells_of_an_ending()
                            .then(|| run.place_of(write))
                            .flatten()
                            .map(from_one),
                    );
                    rows.push(row);
                }
                Item::Event(event) => events.push(EventRow::of(event, position)),
            }
        }
        Self { rows, of, events }
    }
}

fn show<'a>(statement: Statement<'a>, shown: &'a Shown<'a>, moves: bool) -> Statement<'a> {
    let statement = show_rows(statement, shown, moves);
    if shown.events.is_empty() {
        return statement;
    }
    let events = &shown.events;
    let places = events.iter().map(|event| event.seq);
    let place = Column::new::<BigInt, _>("seq", places).within("place.before + ", "");
    let others = columns!(
        events,
        structure_events {
            event_type: event_type,
            workspace_id: workspace_id,
            payload: payload,
            created_at: created_at,
        }
    );
    let course = seldom_columns!(
        events,
        structure_events {
            delegation_id: delegation_id
        }
    );
    let all: Vec<Column<'_>> = [place].into_iter().chain(others).chain(course).collect();
    statement
        .text(", events AS (INSERT INTO structure_events (")
        .names(&all)
        .text(") SELECT ")
        .rows(all)
        .text(" FROM place)")
}

fn show_rows<'a>(statement: Statement<'a>, shown: &'a Shown<'a>, moves: bool) -> Statement<'a> {
    let rows = &shown.rows;
    if rows.is_empty() {
        return statement;
    }
    let places = rows.iter().map(|row| row.seq);
    let place = Column::new::<BigInt, _>("seq", places).within("place.before + ", "");
    let others = columns!(
        rows,
        activity_logs {
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
        }
    );
    let named = seldom_columns!(rows, activity_logs { id: id });
    let of = Column::new::<Nullable<Integer>, _>("delegation_number", shown.of.iter());
    let of = moves.then(|| of.within("given.numbers[", "]"));
    let from = if moves {
        " FROM place, given)"
    } else {
        " FROM place)"
    };
    let all: Vec<Column<'_>> = [place]
        .into_iter()
        .chain(others)
        .chain(named)
        .chain(of)
        .collect();
    statement
        .text(", feed AS (INSERT INTO activity_logs (")
        .names(&all)
        .text(") SELECT ")
        .rows(all)
        .text(from)
}

/// Refuses the whole unless all of it was stored, and tells the other nodes, if there are any: whoever joins waits for
/// the lock that this batch holds, and is counted under it.
fn judge<'a>(
    statement: Statement<'a>,
    run: &Run<'_>,
    begun: &'a [NewRow<'a>],
    endings: Endings,
    payload: Option<&'a str>,
) -> Statement<'a> {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let mut statement = statement.text(" SELECT place.before, place.nodes, 1 / (true");
    if !run.advances.is_empty() {
        statement = statement
            .text(" AND (SELECT count(*) FROM moved) = ")
            .value::<BigInt, _>(
                count(run.advances.len()),
                " AND (SELECT count(*) FROM gone) = ",
            )
            .value::<BigInt, _>(endings.all(), "");
    }
    if !begun.is_empty() {
        statement = statement
            .text(" AND (SELECT count(*) FROM begun) = ")
            .value::<BigInt, _>(count(begun.len()), "");
    }
    // What a key means that a failed delegation gave back is found out one by one; one that is held is refused by its index.
    if begun.iter().any(|row| row.idempotency_key.is_some()) {
        statement = statement
            .text(" AND NOT EXISTS (SELECT 1 FROM (SELECT ")
            .rows(columns!(begun, delegations { caller_id: caller_id, idempotency_key: idempotency_key }))
            .text(
                ") AS v WHERE EXISTS (SELECT 1 FROM delegations AS d WHERE d.caller_id = v.caller_id \
                 AND d.given_back_key = v.idempotency_key AND d.given_back_key IS NOT NULL))",
            );
    }
    statement = statement.text(")::integer, ");
    statement = match payload {
        None => statement.text("NULL::boolean, "),
        Some(payload) => statement
            .text("CASE WHEN place.nodes > 1 THEN pg_notify(")
            .value::<Text, _>(CHANNEL, ", ")
            .value::<Text, _>(payload, ") IS NULL END, "),
    };
    statement.text(if run.acks.is_empty() {
        "NULL::uuid[], NULL::bigint[] FROM place"
    } else {
        "(SELECT array_agg(workspace_id ORDER BY workspace_id) FROM acked), \
         (SELECT array_agg(last_acked_seq ORDER BY workspace_id) FROM acked) FROM place"
    })
}

const PLACES: &str = "WITH own AS (SELECT id FROM nodes WHERE id = holder AND id = ";
const TAKEN: &str = " FOR SHARE) UPDATE feed_position AS p SET last = p.last + ";
const LAST: &str = " FROM own WHERE p.id = 1 RETURNING p.last";

/// Proves the lease and takes this many places. None when the lease is lost.
pub(crate) fn take_places(
    conn: &mut PgConnection,
    node: NodeId,
    number: i64,
) -> Result<Option<i64>, Error> {
    Ok(Columnar::<BigInt>::new(PLACES)
        .value::<DbUuid, _>(Id(node.0), TAKEN)
        .value::<BigInt, _>(number, LAST)
        .get_result(conn)
        .optional()?)
}
