//! Each database: the shared bodies for its connection type, and what only it does.

use super::session::Leased;
use super::{
    ActivityFilter, ActivityView, AuditLimits, Commit, DelegationFilter, DelegationLine,
    DelegationView, Error, EventView, Faces, Family, Handed, HandedFilter, Line, LineFilter,
    LinePage, LiveMarks, Loaded, NodeView, OwedReply, Page, Reader, Tally, TokenView, ToldOf,
    Write, Writer,
};
use crate::domain::{
    ActivityId, Audited, DelegationId, DelegationKey, Envelope, NodeId, Position, Receiver,
    ReceiverId, ReceiverState, Said, Status, Workspace, WorkspaceId,
};

pub(super) mod postgres {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    use std::time::Instant;

    use crate::domain::{NodeId, Position};
    use crate::store::batch::{Batch, Manner, Run, has_key, places};
    use crate::store::folded::{Places, Stored};
    use crate::store::fragments::{GoneNodes, pg_notify};
    use crate::store::rows::{ActivityRow, EventRow};
    use crate::store::schema::{activity_logs, nodes, structure_events};
    use crate::store::session::{Attempt, Session};
    use crate::store::telling::{self, CHANNEL};
    use crate::store::types::Id;
    use crate::store::{Commit, Error, Span, Write, folded, shared};

    /// PostgreSQL takes 65,535 values in one statement; a row has 15.
    const ROWS_AT_ONCE: usize = 1000;
    /// It hangs up on a message of 1 GB, and would on every repetition.
    const BYTES_AT_ONCE: usize = 64 << 20;

    /// Portions that one statement can carry; a row that is larger than that goes alone.
    fn portions<T>(rows: &[T], bytes_of: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
        let (mut number, mut bytes) = (1, rows.first().map_or(0, &bytes_of));
        rows.chunk_by(move |_, next| {
            let size = bytes_of(next);
            let fits = number < ROWS_AT_ONCE && bytes + size <= BYTES_AT_ONCE;
            (number, bytes) = if fits {
                (number + 1, bytes + size)
            } else {
                (1, size)
            };
            fits
        })
    }

    fn in_transaction<T>(
        conn: &mut PgConnection,
        body: impl FnOnce(&mut PgConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        conn.transaction(body)
    }

    fn insert_rows(conn: &mut PgConnection, rows: &[ActivityRow<'_>]) -> Result<(), Error> {
        for some in portions(rows, ActivityRow::bytes) {
            diesel::insert_into(activity_logs::table)
                .values(some)
                .execute(conn)?;
        }
        Ok(())
    }

    fn insert_events(conn: &mut PgConnection, events: &[EventRow]) -> Result<(), Error> {
        for some in portions(events, EventRow::bytes) {
            diesel::insert_into(structure_events::table)
                .values(some)
                .execute(conn)?;
        }
        Ok(())
    }

    /// Whether there are other nodes to tell what was committed.
    const TELLS: bool = true;

    /// Forgets how statements are carried out: a plan that was made while a table was empty is wrong when it is not.
    fn plan_anew(conn: &mut PgConnection) -> Result<(), Error> {
        Ok(conn.batch_execute("DISCARD PLANS")?)
    }

    /// Takes places, if this node still holds its own row. Until the transaction ends, nobody can take that over.
    fn take_places(
        conn: &mut PgConnection,
        node: NodeId,
        number: i64,
    ) -> Result<Option<i64>, Error> {
        folded::take_places(conn, node, number)
    }

    /// Commits beginnings and changes of different delegations in one statement; with other writes, or to be watched, in
    /// one transaction. None when these writes are not to be stored so.
    fn commit_whole(
        conn: &mut PgConnection,
        session: &mut Session,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Option<Result<Commit, Error>> {
        let mut result = commit_run(conn, session, writes, &Run::of(writes, false)?, written);
        if matches!(result, Err(Error::Refused(_))) && writes.iter().any(has_key) {
            // A key that was used before is nothing unusual, and the others need not pay for it.
            metrics::counter!("baton_batches_refused_total").increment(1);
            result = commit_run(conn, session, writes, &Run::of(writes, true)?, written);
        }
        Some(result)
    }

    fn commit_run<'a>(
        conn: &mut PgConnection,
        session: &mut Session,
        writes: &'a [Write],
        run: &Run<'a>,
        written: Option<&dyn Fn()>,
    ) -> Result<Commit, Error> {
        let began = Instant::now();
        let is_all = run.rest.is_empty() && written.is_none();
        // What a key means must be looked up after the lock is taken.
        let one_statement = is_all && !run.has_keys() && session.renewal(false).is_none();
        let attempt = if one_statement {
            at_once(conn, session, writes, run)?
        } else {
            in_transaction(conn, |conn| {
                let attempt = in_turn(conn, session, writes, run)?;
                if let Some(written) = written {
                    written();
                }
                Ok(attempt)
            })?
        };
        Ok(session.committed(began, attempt))
    }

    /// The statement is the transaction.
    fn at_once<'a>(
        conn: &mut PgConnection,
        session: &mut Session,
        writes: &'a [Write],
        run: &Run<'a>,
    ) -> Result<Attempt, Error> {
        let number = places(writes);
        let mut batch = Batch::new(writes, Manner::Whole, session.lease.node(), Position(0));
        batch.take_run(run);
        let payload = telling::payload(&batch, writes, session.number);
        // If it fails, the next try goes the way that waits for nobody.
        let places = if std::mem::take(&mut session.alone) {
            Places::TakeLate(number)
        } else {
            Places::Take(number)
        };
        let stored = folded::write(conn, run, &batch, places, payload.as_deref())?;
        session.progressed();
        let Stored {
            before,
            alone,
            acked,
        } = stored.ok_or(Error::Fenced)?;
        session.alone = alone;
        batch.move_behind(before);
        batch.note_acks(run, &acked);
        Ok(Attempt {
            commit: batch.finish(&[]),
            renewed: false,
            span: Some(Span::of(before, number)),
        })
    }

    /// Within a transaction: the lease and the places, the other writes, then the statement.
    fn in_turn<'a>(
        conn: &mut PgConnection,
        session: &Session,
        writes: &'a [Write],
        run: &Run<'a>,
    ) -> Result<Attempt, Error> {
        let node = session.lease.node();
        let renewal = session.renewal(false);
        let span = leases::prove(conn, node, renewal, Some(places(writes)))?;
        session.progressed();
        let before = span.map_or(Position(0), |span| span.before);
        let mut batch = Batch::new(writes, Manner::Whole, node, before);
        commit::apply_all(conn, session, run.rest.iter().copied(), &mut batch)?;
        batch.take_run(run);
        let payload = telling::payload(&batch, writes, session.number);
        let stored = folded::write(conn, run, &batch, Places::Taken, payload.as_deref())?;
        batch.note_acks(run, &stored.ok_or(Error::Fenced)?.acked);
        session.progressed();
        Ok(Attempt {
            commit: batch.finish(&[]),
            renewed: renewal.is_some(),
            span,
        })
    }

    /// Locks, of these, those that nobody is writing under at this moment.
    fn lock_idle(conn: &mut PgConnection, gone: GoneNodes) -> Result<Vec<Id>, Error> {
        Ok(nodes::table
            .filter(gone)
            .select(nodes::id)
            .for_update()
            .skip_locked()
            .load(conn)?)
    }

    /// Tells the other nodes, if and when this transaction is committed.
    fn notify(conn: &mut PgConnection, payload: &str) -> Result<(), Error> {
        diesel::select(pg_notify(CHANNEL, payload)).execute(conn)?;
        Ok(())
    }

    shared::leases!(PgConnection);
    shared::read_workspaces!(PgConnection);
    shared::read_feed!(PgConnection, diesel::pg::Pg);
    shared::read_delegations!(PgConnection, diesel::pg::Pg);
    shared::read_canvas!(PgConnection, diesel::pg::Pg);
    shared::read_tasks!(PgConnection, diesel::pg::Pg);
    shared::write_delegations!(PgConnection);
    shared::write_workspaces!(PgConnection);
    shared::receivers!(PgConnection, diesel::pg::Pg);
    shared::prune!(PgConnection);
    shared::commit!(PgConnection);

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_statement_carries_neither_too_many_rows_nor_too_many_bytes() {
            let lengths = |rows: &[usize]| -> Vec<usize> {
                portions(rows, |bytes| *bytes).map(<[_]>::len).collect()
            };
            let half = BYTES_AT_ONCE / 2;
            assert_eq!(lengths(&[]), [0; 0]);
            assert_eq!(lengths(&[half, half, 1, half]), [2, 2]);
            assert_eq!(lengths(&[3 * half, 3 * half, 1]), [1, 1, 1]);
            assert_eq!(lengths(&vec![1; 2 * ROWS_AT_ONCE + 1]), [1000, 1000, 1]);
        }
    }
}

pub(super) mod sqlite {
    use diesel::prelude::*;

    use crate::domain::NodeId;
    use crate::store::batch::Manner;
    use crate::store::fragments::{GoneNodes, IsLive, Prepared, TakePlaces};
    use crate::store::rows::{ActivityRow, EventRow};
    use crate::store::schema::{activity_logs, nodes, push_receivers, structure_events};
    use crate::store::session::Session;
    use crate::store::types::Id;
    use crate::store::{Commit, Error, Write, shared};

    /// Immediate: a transaction that begins as a reader cannot wait for the writer before it.
    fn in_transaction<T>(
        conn: &mut SqliteConnection,
        body: impl FnOnce(&mut SqliteConnection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        conn.immediate_transaction(body)
    }

    // One prepared statement for each row is faster here than one long statement that is parsed each time.

    /// The text of a row of the feed.
    #[derive(Debug)]
    struct Row;
    /// The text of an event.
    #[derive(Debug)]
    struct Event;

    fn insert_rows(conn: &mut SqliteConnection, rows: &[ActivityRow<'_>]) -> Result<(), Error> {
        for row in rows {
            let insert = diesel::insert_into(activity_logs::table).values(row);
            Prepared::new(Row, insert).execute(conn)?;
        }
        Ok(())
    }

    fn insert_events(conn: &mut SqliteConnection, events: &[EventRow]) -> Result<(), Error> {
        for event in events {
            let insert = diesel::insert_into(structure_events::table).values(event);
            Prepared::new(Event, insert).execute(conn)?;
        }
        Ok(())
    }

    /// Takes over from everyone: the process that has the database to itself knows that all others are gone.
    pub(in crate::store) fn take_all(conn: &mut SqliteConnection, node: Id) -> Result<(), Error> {
        diesel::update(nodes::table)
            .set(nodes::holder.eq(node))
            .execute(conn)?;
        diesel::update(push_receivers::table.filter(IsLive))
            .set(push_receivers::lease_owner.eq(node))
            .execute(conn)?;
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "its twin can fail")]
    const fn plan_anew(_: &mut SqliteConnection) -> Result<(), Error> {
        Ok(())
    }

    // One process has the database, one connection writes: whoever reads in a writing transaction has the lock.

    fn take_places(
        conn: &mut SqliteConnection,
        node: NodeId,
        number: i64,
    ) -> Result<Option<i64>, Error> {
        let node = Id(node.0);
        Ok(TakePlaces { node, number }.get_result(conn).optional()?)
    }

    const TELLS: bool = false;

    /// A prepared statement for each write costs less here than one for many, and nothing on the way. A savepoint copies
    /// each page that is written in it: a reply goes with its ending, unless one is refused.
    #[expect(clippy::unnecessary_wraps, reason = "its twin may have nothing to do")]
    fn commit_whole(
        conn: &mut SqliteConnection,
        session: &mut Session,
        writes: &[Write],
        written: Option<&dyn Fn()>,
    ) -> Option<Result<Commit, Error>> {
        Some(commit::transact(
            conn,
            session,
            writes,
            Manner::Whole,
            written,
        ))
    }

    fn lock_idle(conn: &mut SqliteConnection, gone: GoneNodes) -> Result<Vec<Id>, Error> {
        Ok(nodes::table.filter(gone).select(nodes::id).load(conn)?)
    }

    #[expect(clippy::unnecessary_wraps, reason = "its twin can fail")]
    const fn notify(_: &mut SqliteConnection, _: &str) -> Result<(), Error> {
        Ok(())
    }

    shared::leases!(SqliteConnection);
    shared::read_workspaces!(SqliteConnection);
    shared::read_feed!(SqliteConnection, diesel::sqlite::Sqlite);
    shared::read_delegations!(SqliteConnection, diesel::sqlite::Sqlite);
    shared::read_canvas!(SqliteConnection, diesel::sqlite::Sqlite);
    shared::read_tasks!(SqliteConnection, diesel::sqlite::Sqlite);
    shared::write_delegations!(SqliteConnection);
    shared::write_workspaces!(SqliteConnection);
    shared::receivers!(SqliteConnection, diesel::sqlite::Sqlite);
    shared::prune!(SqliteConnection);
    shared::commit!(SqliteConnection);
}

macro_rules! implement {
    ($Conn:ty, $backend:ident, $($module:ident { $(
        fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;
    )+ })+) => {
        impl Reader for $Conn {
            $($(
                fn $name(&mut self, $($argument: $type),*) -> Result<$answer, Error> {
                    metrics::counter!("baton_store_reads_total", "query" => stringify!($name)).increment(1);
                    $backend::$module::$name(self, $($argument),*)
                }
            )+)+
        }

        impl Writer for Leased<$Conn> {
            fn commit_watched(
                &mut self,
                writes: &[Write],
                written: Option<&dyn Fn()>,
            ) -> Result<Commit, Error> {
                $backend::commit::commit(&mut self.connection, &mut self.session, writes, written)
            }
        }
    };
}

macro_rules! implement_both {
    ($($bodies:tt)*) => {
        implement!(diesel::PgConnection, postgres, $($bodies)*);
        implement!(diesel::SqliteConnection, sqlite, $($bodies)*);
    };
}

implement_both! {
    read_workspaces {
        fn token_owner(hash: &[u8; 32]) -> Option<WorkspaceId>;
        fn workspace(id: WorkspaceId) -> Option<Workspace>;
        fn workspaces() -> Vec<Workspace>;
        fn ancestry(id: WorkspaceId) -> Vec<WorkspaceId>;
        fn descendants(id: WorkspaceId) -> Vec<Workspace>;
        fn peers(id: WorkspaceId) -> Vec<Workspace>;
        fn tokens(workspace: WorkspaceId, limit: i64, offset: i64) -> Vec<TokenView>;
        fn acknowledged(workspace: WorkspaceId) -> Position;
    }
    read_tasks {
        fn said(key: &DelegationKey) -> Option<Said>;
        fn envelope(key: &DelegationKey) -> Option<Envelope>;
        fn course(key: &DelegationKey, limit: i64) -> Vec<EventView>;
        fn handed(filter: &HandedFilter) -> Handed;
    }
    read_delegations {
        fn load(key: &DelegationKey) -> Option<Loaded>;
        fn find_key(party: WorkspaceId, id: &DelegationId) -> Option<DelegationKey>;
        fn given(target: WorkspaceId, id: &DelegationId) -> Option<DelegationKey>;
        fn view(key: &DelegationKey) -> Option<DelegationView>;
        fn task(key: &DelegationKey) -> Option<std::sync::Arc<str>>;
        fn number(key: &DelegationKey) -> Option<Position>;
        fn live(owner: NodeId, after: Option<Position>, limit: i64) -> Page<Loaded>;
        fn waiting_for_removed(limit: i64) -> Vec<DelegationKey>;
        fn delegations(filter: &DelegationFilter) -> Vec<DelegationLine>;
        fn counts() -> Vec<(Status, i64)>;
        fn owed_replies(after: Option<Position>, limit: i64) -> Page<OwedReply>;
        fn audit(
            after: Option<Position>, limit: i64, limits: AuditLimits
        ) -> Page<Audited>;
        fn audit_newest(limit: i64, limits: AuditLimits) -> Vec<Audited>;
    }
    read_canvas {
        fn faces(limit: i64) -> Faces;
        fn live_marks(party: Option<WorkspaceId>, limit: i64) -> LiveMarks;
        fn lines(filter: &LineFilter) -> LinePage;
        fn lines_of(keys: &[DelegationKey]) -> Vec<Line>;
        fn repeatable(keys: &[DelegationKey]) -> Vec<DelegationKey>;
        fn tally(filter: &LineFilter) -> Tally;
        fn parent(key: &DelegationKey) -> Option<DelegationKey>;
        fn family(key: &DelegationKey, limit: i64) -> Family;
        fn told_of(key: &DelegationKey) -> Option<ToldOf>;
    }
    leases {
        fn nodes() -> Vec<NodeView>;
    }
    read_feed {
        fn activity(filter: &ActivityFilter) -> Vec<ActivityView>;
        fn activity_position(workspace: WorkspaceId, id: ActivityId) -> Option<Position>;
        fn recent_events(workspace: Option<WorkspaceId>, limit: i64) -> Vec<EventView>;
        fn events_after(
            workspace: Option<WorkspaceId>, after: Position, limit: i64
        ) -> Vec<EventView>;
        fn last_position() -> Position;
        fn next_feed(after: Option<WorkspaceId>) -> Option<WorkspaceId>;
    }
    receivers {
        fn receiver(id: ReceiverId) -> Option<Receiver>;
        fn receivers_of(
            workspace: WorkspaceId, delegation: Option<&DelegationId>
        ) -> Vec<Receiver>;
        fn receivers_told_by(
            node: NodeId, after: Option<ReceiverId>, limit: i64
        ) -> Vec<Receiver>;
        fn receivers(state: Option<ReceiverState>, limit: i64) -> Vec<Receiver>;
    }
}
