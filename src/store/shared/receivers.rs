//! Who is told by HTTP, once for both databases.

macro_rules! receivers {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod receivers {
            use diesel::prelude::*;

            use crate::domain::{
                Course, DelegationId, NodeId, Position, Receiver, ReceiverId, ReceiverState,
                Timestamp, WorkspaceId, WorkspaceStatus,
            };
            use crate::store::fragments::IsLive;
            use crate::store::life::id_text;
            use crate::store::receiver::{CourseRow, ReceiverRow};
            use crate::store::schema::{push_receivers, workspaces};
            use crate::store::types::{Id, Ts};
            use crate::store::{Error, ReceiverChange, Written};

            const DONE: &str = ReceiverState::Done.as_str();
            const DEAD: &str = ReceiverState::Dead.as_str();

            fn read(rows: Vec<ReceiverRow>) -> Result<Vec<Receiver>, Error> {
                rows.into_iter().map(ReceiverRow::read).collect()
            }

            pub(in crate::store) fn receiver(
                conn: &mut $Conn,
                id: ReceiverId,
            ) -> Result<Option<Receiver>, Error> {
                push_receivers::table
                    .find(Id(id.0))
                    .select(ReceiverRow::as_select())
                    .first(conn)
                    .optional()?
                    .map(ReceiverRow::read)
                    .transpose()
            }

            pub(in crate::store) fn receivers_of(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                delegation: Option<&DelegationId>,
            ) -> Result<Vec<Receiver>, Error> {
                use push_receivers::{delegation_id, workspace_id};
                let own = push_receivers::table
                    .filter(workspace_id.eq(Id(workspace.0)))
                    .order(push_receivers::id)
                    .select(ReceiverRow::as_select())
                    .into_boxed::<$Db>();
                let own = match delegation {
                    Some(id) => own.filter(delegation_id.eq(id_text(id))),
                    None => own.filter(delegation_id.is_null()),
                };
                read(own.load(conn)?)
            }

            pub(in crate::store) fn receivers_told_by(
                conn: &mut $Conn,
                node: NodeId,
                after: Option<ReceiverId>,
                limit: i64,
            ) -> Result<Vec<Receiver>, Error> {
                let after = after.map_or(uuid::Uuid::nil(), |id| id.0);
                let rows = push_receivers::table
                    .filter(IsLive)
                    .filter(push_receivers::lease_owner.eq(Id(node.0)))
                    .filter(push_receivers::id.gt(Id(after)))
                    .order(push_receivers::id)
                    .limit(limit)
                    .select(ReceiverRow::as_select());
                read(rows.load(conn)?)
            }

            pub(in crate::store) fn receivers(
                conn: &mut $Conn,
                state: Option<ReceiverState>,
                limit: i64,
            ) -> Result<Vec<Receiver>, Error> {
                let mut rows = push_receivers::table
                    .order(push_receivers::id.desc())
                    .limit(limit)
                    .select(ReceiverRow::as_select())
                    .into_boxed::<$Db>();
                if let Some(state) = state {
                    rows = rows.filter(push_receivers::state.eq(state.as_str()));
                }
                read(rows.load(conn)?)
            }

            pub(in crate::store) fn change(
                conn: &mut $Conn,
                change: &ReceiverChange,
                node: NodeId,
            ) -> Result<Written, Error> {
                let changed = match change {
                    ReceiverChange::Put { receiver, limit } => {
                        return put(conn, receiver, *limit, node);
                    }
                    ReceiverChange::Drop {
                        workspace,
                        delegation,
                        config,
                    } => {
                        let own = receivers_of(conn, *workspace, delegation.as_ref())?;
                        let named = own.iter().find(|one| one.config == *config);
                        named.map_or(Ok(0), |named| drop_one(conn, named.id))?
                    }
                    ReceiverChange::Note { id, course } => note(conn, *id, course, node)?,
                    ReceiverChange::Replay(id) => replay(conn, *id, node)?,
                    ReceiverChange::Prune {
                        done_before,
                        dead_before,
                        limit,
                    } => return prune(conn, *done_before, *dead_before, *limit),
                };
                Ok(if changed == 0 {
                    Written::Missing
                } else {
                    Written::Done
                })
            }

            fn put(
                conn: &mut $Conn,
                wanted: &Receiver,
                limit: usize,
                node: NodeId,
            ) -> Result<Written, Error> {
                let present: Option<Id> = workspaces::table
                    .find(Id(wanted.workspace.0))
                    .filter(workspaces::status.ne(WorkspaceStatus::Removed.as_str()))
                    .select(workspaces::id)
                    .first(conn)
                    .optional()?;
                if present.is_none() {
                    return Ok(Written::Missing);
                }
                let mut others = receivers_of(conn, wanted.workspace, wanted.delegation.as_ref())?;
                if let Some(stored) = others.iter().find(|other| other.id == wanted.id) {
                    // By an earlier try of the same write.
                    return Ok(told_from(&stored.course, None));
                }
                let mut receiver = wanted.clone();
                receiver.node = node;
                let same = others.iter().position(|one| one.config == wanted.config);
                let before = same.map(|place| others.swap_remove(place));
                if let Some(Receiver { id, course, .. }) = &before {
                    // It is told what that one was not, though there may be nothing new to tell.
                    receiver.course = Course::from(course.position);
                    if course.state == ReceiverState::Done {
                        receiver.course.state = ReceiverState::Done;
                    }
                    drop_one(conn, *id)?;
                }
                if others.len() >= limit {
                    return Ok(Written::TooMany);
                }
                diesel::insert_into(push_receivers::table)
                    .values(ReceiverRow::from(&receiver))
                    .execute(conn)?;
                Ok(told_from(&receiver.course, before.map(|before| before.id)))
            }

            const fn told_from(course: &Course, before: Option<ReceiverId>) -> Written {
                Written::Put {
                    position: course.position,
                    state: course.state,
                    before,
                }
            }

            fn drop_one(conn: &mut $Conn, id: ReceiverId) -> Result<usize, Error> {
                Ok(diesel::delete(push_receivers::table.find(Id(id.0))).execute(conn)?)
            }

            fn note(
                conn: &mut $Conn,
                id: ReceiverId,
                course: &Course,
                node: NodeId,
            ) -> Result<usize, Error> {
                let own = push_receivers::table
                    .find(Id(id.0))
                    .filter(push_receivers::lease_owner.eq(Id(node.0)));
                Ok(diesel::update(own)
                    .set(CourseRow::from(course))
                    .execute(conn)?)
            }

            fn replay(conn: &mut $Conn, id: ReceiverId, node: NodeId) -> Result<usize, Error> {
                let dead = push_receivers::table
                    .find(Id(id.0))
                    .filter(push_receivers::state.eq(DEAD));
                let anew = (
                    push_receivers::state.eq(ReceiverState::Live.as_str()),
                    push_receivers::failures.eq(0),
                    push_receivers::failing_since.eq(None::<Ts>),
                    push_receivers::next_attempt_at.eq(None::<Ts>),
                    push_receivers::lease_owner.eq(Id(node.0)),
                );
                Ok(diesel::update(dead).set(anew).execute(conn)?)
            }

            fn prune(
                conn: &mut $Conn,
                done_before: Timestamp,
                dead_before: Timestamp,
                limit: i64,
            ) -> Result<Written, Error> {
                use push_receivers::{created_at, failing_since, id, state};
                let done = push_receivers::table
                    .filter(state.eq(DONE))
                    .filter(created_at.lt(Ts::from(done_before)))
                    .select(id)
                    .limit(limit);
                let dead = push_receivers::table
                    .filter(state.eq(DEAD))
                    .filter(failing_since.lt(Ts::from(dead_before)))
                    .select(id)
                    .limit(limit);
                let mut old: Vec<Id> = done.load(conn)?;
                old.extend(dead.load::<Id>(conn)?);
                let gone = push_receivers::table.filter(id.eq_any(&old));
                let deleted = diesel::delete(gone).execute(conn)?;
                let more = i64::try_from(deleted).is_ok_and(|deleted| deleted >= limit);
                Ok(Written::Pruned {
                    deleted,
                    next: more.then_some(Position(0)),
                })
            }
        }
    };
}
pub(in crate::store) use receivers;
