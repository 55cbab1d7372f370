//! Reads of feed rows and events, once for both databases.

macro_rules! read_feed {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_feed {
            use diesel::prelude::*;

            use crate::domain::{ActivityId, METHOD_DELEGATE, Position, WorkspaceId};
            use crate::store::rows::{ActivityRead, EventRead};
            use crate::store::schema::{
                activity_logs, delegations, feed_position, structure_events,
            };
            use crate::store::types::{Id, Ts};
            use crate::store::{ActivityFilter, ActivityView, Error, EventView, SourceFilter};

            type Now = (Option<String>, Option<String>);

            pub(in crate::store) fn activity(
                conn: &mut $Conn,
                filter: &ActivityFilter,
            ) -> Result<Vec<ActivityView>, Error> {
                use activity_logs::{
                    activity_type, created_at, delegation_id, method, seq, source_id, target_id,
                    workspace_id,
                };
                let mut query = activity_logs::table
                    .left_join(
                        delegations::table.on(delegations::caller_id
                            .eq(workspace_id)
                            .and(delegations::delegation_id.nullable().eq(delegation_id))
                            .and(method.eq(METHOD_DELEGATE))),
                    )
                    .select((
                        ActivityRead::as_select(),
                        (
                            delegations::status.nullable(),
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
                let rows: Vec<(ActivityRead, Now)> = query.load(conn)?;
                let views = rows
                    .into_iter()
                    .map(|(row, (status, detail))| row.read(status.map(|status| (status, detail))));
                Ok(views.collect())
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
        }
    };
}
pub(in crate::store) use read_feed;
