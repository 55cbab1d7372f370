//! Reads of feed rows and events, once for both databases.

/// Adds what a filter asks for to a boxed query of the feed, and its order.
macro_rules! narrowed {
    ($query:expr, $filter:expr) => {{
        use crate::store::schema::activity_logs as a;
        let (mut query, filter) = ($query, $filter);
        match filter.source {
            Some(SourceFilter::Canvas) => query = query.filter(a::source_id.is_null()),
            Some(SourceFilter::Agent) => query = query.filter(a::source_id.is_not_null()),
            None => {}
        }
        if let Some(peer) = filter.peer {
            let peer = Id(peer.0);
            query = query.filter(a::source_id.eq(peer).or(a::target_id.eq(peer)));
        }
        if let Some(since) = filter.since {
            query = query.filter(a::created_at.ge(Ts::from(since)));
        }
        if let Some(before) = filter.before {
            query = query.filter(a::created_at.lt(Ts::from(before)));
        }
        if let Some(position) = filter.before_position {
            query = query.filter(a::seq.lt(position.0));
        }
        match filter.after_position {
            Some(position) => query.filter(a::seq.gt(position.0)).order(a::seq.asc()),
            None => query.order(a::seq.desc()),
        }
    }};
}
pub(in crate::store) use narrowed;

macro_rules! read_feed {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_feed {
            use diesel::dsl::case_when;
            use diesel::prelude::*;

            use crate::domain::{
                ActivityId, ActivityType, METHOD_DELEGATE, METHOD_SEND, Position, WorkspaceId,
            };
            use crate::store::fragments::Caller;
            use crate::store::lines::{Order, merged};
            use crate::store::rows::{ActivityRead, DelegationNow, EventRead};
            use crate::store::schema::{
                activity_logs, delegations, feed_position, structure_events,
            };
            use crate::store::shared::narrowed;
            use crate::store::types::{Id, Ts};
            use crate::store::{ActivityFilter, ActivityView, Error, EventView, SourceFilter};

            fn words() -> impl Iterator<Item = &'static str> {
                ActivityType::ALL.iter().map(|one| one.as_str())
            }

            /// The first and the last place of what a read of rows of every type finds: the feed has one index, which
            /// is by type. None when it finds nothing.
            fn portion(
                conn: &mut $Conn,
                filter: &ActivityFilter,
            ) -> Result<Option<(i64, i64)>, Error> {
                use activity_logs::{activity_type, seq, workspace_id};
                let mut found: Vec<i64> = Vec::new();
                for word in words() {
                    let query = activity_logs::table
                        .select(seq)
                        .filter(workspace_id.eq(Id(filter.workspace.0)))
                        .filter(activity_type.eq(word))
                        .limit(filter.limit)
                        .into_boxed::<$Db>();
                    found.extend(narrowed!(query, filter).load::<i64>(conn)?);
                }
                let order = match filter.after_position {
                    Some(_) => Order::OldestFirst,
                    None => Order::NewestFirst,
                };
                let found = merged(found, filter.limit, order);
                let ends = found.iter().min().zip(found.iter().max());
                Ok(ends.map(|(first, last)| (*first, *last)))
            }

            pub(in crate::store) fn activity(
                conn: &mut $Conn,
                filter: &ActivityFilter,
            ) -> Result<Vec<ActivityView>, Error> {
                use activity_logs::{
                    activity_type, delegation_id, method, seq, source_id, workspace_id,
                };
                let own = Id(filter.workspace.0);
                let portion = match filter.activity_type {
                    Some(_) => None,
                    None => match portion(conn, filter)? {
                        None => return Ok(Vec::new()),
                        found => found,
                    },
                };
                // A delegation is its caller's: whose feed it is says so, but for a request in its target's inbox.
                let caller =
                    case_when(method.eq(METHOD_SEND), source_id).otherwise(workspace_id.nullable());
                let tells = method.eq_any([METHOD_DELEGATE, METHOD_SEND]);
                let mut query = activity_logs::table
                    .left_join(
                        delegations::table.on(Caller
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
                    .filter(workspace_id.eq(own))
                    .limit(filter.limit)
                    .into_boxed::<$Db>();
                if let Some(word) = &filter.activity_type {
                    query = query.filter(activity_type.eq(word.as_str()));
                }
                if let Some((first, last)) = portion {
                    query = query
                        .filter(activity_type.eq_any(words()))
                        .filter(seq.between(first, last));
                }
                let rows: Vec<(ActivityRead, DelegationNow)> =
                    narrowed!(query, filter).load(conn)?;
                Ok(rows.into_iter().map(|(row, now)| row.read(now)).collect())
            }

            pub(in crate::store) fn activity_position(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                id: ActivityId,
            ) -> Result<Option<Position>, Error> {
                use activity_logs::{activity_type, created_at, seq, workspace_id};
                let own = activity_logs::table
                    .filter(workspace_id.eq(Id(workspace.0)))
                    .select(seq)
                    .into_boxed::<$Db>();
                let query = match id.place() {
                    Some((place, at)) => own
                        .filter(activity_type.eq_any(words()))
                        .filter(seq.eq(place.0))
                        .filter(created_at.eq(Ts::from(at)))
                        .filter(activity_logs::id.is_null()),
                    None => own.filter(activity_logs::id.eq(Id(id.0))),
                };
                let position: Option<i64> = query.first(conn).optional()?;
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
                // The index by workspace and type answers this with one look.
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
