//! Reads of delegations, once for both databases.

macro_rules! read_delegations {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_delegations {
            use std::sync::Arc;

            use diesel::prelude::*;

            use crate::domain::{
                Audited, DelegationId, DelegationKey, NodeId, State, Status, WorkspaceId,
            };
            use crate::store::fragments::{
                CallerExists, OwesReply, Replies, ResultHead, ResultRows, WaitsForRemoved,
            };
            use crate::store::life::{LoadedRow, id_text};
            use crate::store::lines::{
                AuditTuple, LineTuple, ViewTuple, newest_first, read_audited, read_line, read_view,
            };
            use crate::store::schema::delegations;
            use crate::store::types::{Id, Ts};
            use crate::store::{
                AuditLimits, DelegationFilter, DelegationLine, DelegationView, Error, Loaded,
                OwedReply, Page,
            };

            pub(in crate::store) fn load(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<Loaded>, Error> {
                delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select(LoadedRow::as_select())
                    .first(conn)
                    .optional()?
                    .map(LoadedRow::read)
                    .transpose()
            }

            pub(in crate::store) fn find_key(
                conn: &mut $Conn,
                party: WorkspaceId,
                id: &DelegationId,
            ) -> Result<Option<DelegationKey>, Error> {
                let text = id_text(id);
                let own: Option<Id> = delegations::table
                    .find((Id(party.0), &*text))
                    .select(delegations::caller_id)
                    .first(conn)
                    .optional()?;
                let caller = match own {
                    Some(caller) => Some(caller),
                    None => delegations::table
                        .filter(delegations::callee_id.eq(Id(party.0)))
                        .filter(delegations::delegation_id.eq(&*text))
                        .order((
                            delegations::ended_at.is_not_null(),
                            delegations::created_at.desc(),
                            delegations::caller_id,
                        ))
                        .select(delegations::caller_id)
                        .first(conn)
                        .optional()?,
                };
                Ok(caller.map(|caller| DelegationKey {
                    caller: WorkspaceId(caller.0),
                    id: id.clone(),
                }))
            }

            pub(in crate::store) fn view(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<DelegationView>, Error> {
                use delegations::{history, result_raw, retry_of, task_preview, updated_at};
                let row: Option<ViewTuple> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((
                        LoadedRow::as_select(),
                        task_preview,
                        retry_of,
                        updated_at,
                        history,
                        result_raw,
                    ))
                    .first(conn)
                    .optional()?;
                row.map(read_view).transpose()
            }

            pub(in crate::store) fn task(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<Arc<str>>, Error> {
                let task: Option<String> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select(delegations::task)
                    .first(conn)
                    .optional()?;
                Ok(task.map(Into::into))
            }

            pub(in crate::store) fn live(
                conn: &mut $Conn,
                owner: NodeId,
                after: Option<&DelegationKey>,
                limit: i64,
            ) -> Result<Page<Loaded>, Error> {
                use delegations::{caller_id, delegation_id, ended_at, lease_owner};
                let mut query = delegations::table
                    .filter(lease_owner.eq(Id(owner.0)))
                    .filter(ended_at.is_null())
                    .order((caller_id, delegation_id))
                    .select(LoadedRow::as_select())
                    .limit(limit)
                    .into_boxed::<$Db>();
                if let Some(key) = after {
                    let caller = Id(key.caller.0);
                    let later = delegation_id.gt(id_text(&key.id));
                    query = query
                        .filter(caller_id.ge(caller))
                        .filter(caller_id.gt(caller).or(later));
                }
                let rows: Vec<LoadedRow> = query.load(conn)?;
                let last = rows.last().map(LoadedRow::key);
                let rows = rows.into_iter().filter_map(LoadedRow::read_or_skip);
                Ok(Page {
                    rows: rows.collect(),
                    last,
                })
            }

            pub(in crate::store) fn waiting_for_removed(
                conn: &mut $Conn,
                limit: i64,
            ) -> Result<Vec<DelegationKey>, Error> {
                let found: Vec<(Id, String)> = delegations::table
                    .filter(delegations::ended_at.is_null())
                    .filter(WaitsForRemoved)
                    .select((delegations::caller_id, delegations::delegation_id))
                    .limit(limit)
                    .load(conn)?;
                let key = |(caller, id): (Id, String)| DelegationKey {
                    caller: WorkspaceId(caller.0),
                    id: DelegationId::from_text(&id),
                };
                Ok(found.into_iter().map(key).collect())
            }

            #[derive(Clone, Copy)]
            enum Side {
                Caller(Id),
                Callee(Id),
            }

            fn lines(
                conn: &mut $Conn,
                side: Option<Side>,
                filter: &DelegationFilter,
            ) -> Result<Vec<LineTuple>, Error> {
                use delegations as d;
                let mut query = d::table
                    .select((
                        (
                            d::caller_id,
                            d::delegation_id,
                            d::callee_id,
                            d::task_preview,
                            d::status,
                        ),
                        (
                            ResultHead,
                            d::error_detail,
                            d::error_class,
                            d::last_heartbeat,
                        ),
                        (d::deadline, d::attempt, d::created_at, d::updated_at),
                    ))
                    .order((d::created_at.desc(), d::delegation_id.desc()))
                    .limit(filter.limit)
                    .into_boxed::<$Db>();
                match side {
                    Some(Side::Caller(id)) => query = query.filter(d::caller_id.eq(id)),
                    Some(Side::Callee(id)) => query = query.filter(d::callee_id.eq(id)),
                    None => {}
                }
                if !filter.statuses.is_empty() {
                    let words: Vec<&str> = filter.statuses.iter().map(|one| one.as_str()).collect();
                    query = query.filter(d::status.eq_any(words));
                }
                if let Some((instant, id)) = &filter.before {
                    let instant = Ts::from(*instant);
                    let earlier = d::delegation_id.lt(id_text(id));
                    query = query
                        .filter(d::created_at.le(instant))
                        .filter(d::created_at.lt(instant).or(earlier));
                }
                Ok(query.load(conn)?)
            }

            pub(in crate::store) fn delegations(
                conn: &mut $Conn,
                filter: &DelegationFilter,
            ) -> Result<Vec<DelegationLine>, Error> {
                // One look by each end of the delegation: an OR of the two would use neither index.
                let rows = match filter.party {
                    None => lines(conn, None, filter)?,
                    Some(party) => {
                        let sent = lines(conn, Some(Side::Caller(Id(party.0))), filter)?;
                        let taken = lines(conn, Some(Side::Callee(Id(party.0))), filter)?;
                        newest_first(sent, taken, filter.limit)
                    }
                };
                rows.into_iter().map(read_line).collect()
            }

            pub(in crate::store) fn counts(conn: &mut $Conn) -> Result<Vec<(Status, i64)>, Error> {
                let found: Vec<(String, i64)> = delegations::table
                    .group_by(delegations::status)
                    .select((delegations::status, diesel::dsl::count_star()))
                    .load(conn)?;
                let number = |status: &Status| {
                    let of = found.iter().find(|(word, _)| word == status.as_str());
                    (*status, of.map_or(0, |(_, number)| *number))
                };
                Ok(Status::ALL.iter().map(number).collect())
            }

            pub(in crate::store) fn owed_replies(
                conn: &mut $Conn,
                after: Option<&DelegationKey>,
                limit: i64,
            ) -> Result<Page<OwedReply>, Error> {
                use delegations::{caller_id, delegation_id};
                let mut query = delegations::table
                    .filter(OwesReply)
                    .order((caller_id, delegation_id))
                    .select(LoadedRow::as_select())
                    .limit(limit)
                    .into_boxed::<$Db>();
                if let Some(key) = after {
                    let caller = Id(key.caller.0);
                    let later = delegation_id.gt(id_text(&key.id));
                    query = query
                        .filter(caller_id.ge(caller))
                        .filter(caller_id.gt(caller).or(later));
                }
                let rows: Vec<LoadedRow> = query.load(conn)?;
                let last = rows.last().map(LoadedRow::key);
                let mut owed = Vec::with_capacity(rows.len());
                for loaded in rows.into_iter().filter_map(LoadedRow::read_or_skip) {
                    // A live delegation cannot owe one; the audit would say so.
                    if let State::Ended(ended) = loaded.life.state {
                        owed.push(OwedReply {
                            terms: loaded.terms,
                            ending: ended.ending,
                            ended_at: ended.at,
                        });
                    }
                }
                Ok(Page { rows: owed, last })
            }

            pub(in crate::store) fn audit(
                conn: &mut $Conn,
                after: Option<&DelegationKey>,
                limit: i64,
                limits: AuditLimits,
            ) -> Result<Vec<Audited>, Error> {
                use delegations::{caller_id, deadline, delegation_id, ended_at, reply, status};
                let mut query = delegations::table
                    // A purged caller took its feed with it; there is nothing left to compare with.
                    .filter(CallerExists)
                    .order((caller_id, delegation_id))
                    .select((
                        (caller_id, delegation_id, status, ended_at),
                        (ResultRows, Replies, reply, deadline),
                    ))
                    .limit(limit)
                    .into_boxed::<$Db>();
                if let Some(key) = after {
                    let caller = Id(key.caller.0);
                    let later = delegation_id.gt(id_text(&key.id));
                    query = query
                        .filter(caller_id.ge(caller))
                        .filter(caller_id.gt(caller).or(later));
                }
                let rows: Vec<AuditTuple> = query.load(conn)?;
                rows.into_iter()
                    .map(|row| read_audited(row, limits))
                    .collect()
            }
        }
    };
}
pub(in crate::store) use read_delegations;
