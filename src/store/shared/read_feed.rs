//! Reads of feed rows and events, once for both databases.

macro_rules! read_feed {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_feed {
            use diesel::dsl::case_when;
            use diesel::prelude::*;

            use crate::domain::{ActivityId, METHOD_DELEGATE, METHOD_SEND, Position, WorkspaceId};
            use crate::store::rows::{ActivityRead, DelegationNow, EventRead};
            use crate::store::schema::{
                activity_logs, delegations, feed_position, structure_events,
            };
            use crate::store::types::{Id, Ts};
            use crate::store::{ActivityFilter, ActivityView, Error, EventView, SourceFilter};

            pub(in crate::store) fn activity(
                conn: &mut $Conn,
                filter: &ActivityFilter,
            ) -> Result<Vec<ActivityView>, Error> {
                use activity_logs::{
                    activity_type, created_at, delegation_id, method, seq, source_id, target_id,
                    workspace_id,
                };
                // A delegation is its caller's: whose feed it is says so, but for a request in its target's inbox.
                let caller =
                    case_when(method.eq(METHOD_SEND), source_id).otherwise(workspace_id.nullable());
                let tells = method.eq_any([METHOD_DELEGATE, METHOD_SEND]);
                let mut query = activity_logs::table
                    .left_join(
                        delegations::table.on(delegations::caller_id
                            .nullable()
                            .eq(caller)
                            .and(delegations::delegation_id.nullable().eq(delegation_id))
                            .and(tells)),
                    )
                    .select((
                        ActivityRead::as_select(),
                        (
                            delegations::delegation_id.nullable(),
                            delegations::status.nullable(),
                            delegations::waiting_for.nullable(),
                            delegations::error_detail.nullable(),
                        ),
                    ))
                    .filter(workspace_id.eq(Id(filter.workspace.0)))
                    .limit(filter.limit)
                    .into_boxed::<$Db>();
                if let Some(word) = &filter.activity_type {
                    query = query.filter(activity_type.eq(word.as_str()));
                }
                match filter.source {
                    Some(SourceFilter::Canvas) => query = query.filter(source_id.is_null()),
                    Some(SourceFilter::Agent) => query = query.filter(source_id.is_not_null()),
                    None => {}
                }
                if let Some(peer) = filter.peer {
                    let peer = Id(peer.0);
                    query = query.filter(source_id.eq(peer).or(target_id.eq(peer)));
                }
                if let Some(since) = filter.since {
                    query = query.filter(created_at.ge(Ts::from(since)));
                }
                if let Some(before) = filter.before {
                    query = query.filter(created_at.lt(Ts::from(before)));
                }
                if let Some(position) = filter.before_position {
                    query = query.filter(seq.lt(position.0));
                }
                query = match filter.after_position {
                    Some(position) => query.filter(seq.gt(position.0)).order(seq.asc()),
                    None => query.order(seq.desc()),
                };
                let rows: Vec<(ActivityRead, DelegationNow)> = query.load(conn)?;
                Ok(rows.into_iter().map(|(row, now)| row.read(now)).collect())
            }

            pub(in crate::store) fn activity_position(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                id: ActivityId,
            ) -> Result<Option<Position>, Error> {
                let position: Option<i64> = activity_logs::table
                    .find(Id(id.0))
                    .filter(activity_logs::workspace_id.eq(Id(workspace.0)))
                    .select(activity_logs::seq)
                    .first(conn)
                    .optional()?;
                Ok(position.map(Position))
            }

            pub(in crate::store) fn recent_events(
                conn: &mut $Conn,
                workspace: Option<WorkspaceId>,
                limit: i64,
            ) -> Result<Vec<EventView>, Error> {
                let mut query = structure_events::table
                    .select(EventRead::as_select())
                    .order(structure_events::seq.desc())
                    .limit(limit)
                    .into_boxed::<$Db>();
                if let Some(workspace) = workspace {
                    query = query.filter(structure_events::workspace_id.eq(Id(workspace.0)));
                }
                Ok(query.load(conn)?.into_iter().map(EventView::from).collect())
            }

            pub(in crate::store) fn events_after(
                conn: &mut $Conn,
                workspace: Option<WorkspaceId>,
                after: Position,
                limit: i64,
            ) -> Result<Vec<EventView>, Error> {
                let mut query = structure_events::table
                    .select(EventRead::as_select())
                    .filter(structure_events::seq.gt(after.0))
                    .order(structure_events::seq.asc())
                    .limit(limit)
                    .into_boxed::<$Db>();
                if let Some(workspace) = workspace {
                    query = query.filter(structure_events::workspace_id.eq(Id(workspace.0)));
                }
                Ok(query.load(conn)?.into_iter().map(EventView::from).collect())
            }

            pub(in crate::store) fn last_position(conn: &mut $Conn) -> Result<Position, Error> {
                let last = feed_position::table
                    .select(feed_position::last)
                    .first(conn)?;
                Ok(Position(last))
            }

            pub(in crate::store) fn next_feed(
                conn: &mut $Conn,
                after: Option<WorkspaceId>,
            ) -> Result<Option<WorkspaceId>, Error> {
                // The index by workspace and place answers this with one look.
                let mut query = activity_logs::table
                    .select(activity_logs::workspace_id)
                    .order(activity_logs::workspace_id)
                    .limit(1)
                    .into_boxed::<$Db>();
                if let Some(after) = after {
                    query = query.filter(activity_logs::workspace_id.gt(Id(after.0)));
                }
                let next: Option<Id> = query.first(conn).optional()?;
                Ok(next.map(|id| WorkspaceId(id.0)))
            }
        }
    };
}
pub(in crate::store) use read_feed;
