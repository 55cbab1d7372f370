//! Reads of delegations, once for both databases.

macro_rules! read_delegations {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_delegations {
            use std::sync::Arc;

            use diesel::prelude::*;

            use crate::domain::{
                Audited, DelegationId, DelegationKey, NodeId, Position, State, Status, WorkspaceId,
            };
            use crate::store::fragments::{
                Callee, CallerExists, IsListed, OfLive, OfOwed, Replies, ResultHead, ResultRows, TaskHead, WaitsForRemoved,
            };
            use crate::store::life::{LoadedRow, id_text};
            use crate::store::lines::{
                AuditTuple, LineTuple, Look, Order, ViewTuple, merged, read_audited, read_line,
                read_view,
            };
            use crate::store::schema::{
                delegations, delegations_ended, delegations_live, delegations_owed, feed_position,
            };
            use crate::store::standing::{LIVE, standings};
            use crate::store::types::{Id, Ts};
            use crate::store::{
                AuditLimits, DelegationFilter, DelegationLine, DelegationView, Error, Loaded,
                OwedReply, Page, Parties,
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
                match own {
                    Some(_) => Ok(Some(DelegationKey {
                        caller: party,
                        id: id.clone(),
                    })),
                    None => given(conn, party, id),
                }
            }

            pub(in crate::store) fn given(
                conn: &mut $Conn,
                target: WorkspaceId,
                id: &DelegationId,
            ) -> Result<Option<DelegationKey>, Error> {
                let caller: Option<Id> = delegations::table
                    .filter(Callee.eq(Id(target.0)))
                    .filter(delegations::delegation_id.eq(id_text(id)))
                    .order((
                        delegations::ended_at.is_not_null(),
                        delegations::number.desc(),
                    ))
                    .select(delegations::caller_id)
                    .first(conn)
                    .optional()?;
                Ok(caller.map(|caller| DelegationKey {
                    caller: WorkspaceId(caller.0),
                    id: id.clone(),
                }))
            }

            pub(in crate::store) fn view(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<DelegationView>, Error> {
                use delegations::{
                    history, parent_caller_id, parent_delegation_id, result_raw, retry_of, updated_at,
                };
                let row: Option<ViewTuple> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((
                        LoadedRow::as_select(),
                        TaskHead,
                        retry_of,
                        (parent_caller_id, parent_delegation_id),
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

            pub(in crate::store) fn number(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<Position>, Error> {
                let number: Option<i64> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select(delegations::number)
                    .first(conn)
                    .optional()?;
                Ok(number.map(Position))
            }

            /// The least of numbers comes after nothing.
            fn after_number(after: Option<Position>) -> i64 {
                after.map_or(i64::MIN, |after| after.0)
            }

            pub(in crate::store) fn live(
                conn: &mut $Conn,
                owner: NodeId,
                after: Option<Position>,
                limit: i64,
            ) -> Result<Page<Loaded>, Error> {
                use delegations_live as l;
                let rows: Vec<(i64, LoadedRow)> = l::table
                    .inner_join(delegations::table.on(OfLive))
                    .filter(l::lease_owner.eq(Id(owner.0)))
                    .filter(l::number.gt(after_number(after)))
                    .order(l::number)
                    .select((l::number, LoadedRow::as_select()))
                    .limit(limit)
                    .load(conn)?;
                let last = rows.last().map(|(number, _)| Position(*number));
                let rows = rows.into_iter().filter_map(|(_, row)| row.read_or_skip());
                Ok(Page {
                    rows: rows.collect(),
                    last,
                })
            }

            pub(in crate::store) fn waiting_for_removed(
                conn: &mut $Conn,
                limit: i64,
            ) -> Result<Vec<DelegationKey>, Error> {
                use delegations_live as l;
                let found: Vec<(Id, String)> = l::table
                    .inner_join(delegations::table.on(OfLive))
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
                All,
                Caller(Id),
                Callee(Id),
            }

            /// The newest of one index, by the numbers that it holds: those of one side, that are looked for.
            macro_rules! newest {
                ($query:expr, $number:expr, $caller:expr, $callee:expr, $side:expr, $look:expr) => {{
                    let (side, look): (Side, &Look<'_>) = ($side, $look);
                    let query = $query.select($number).order($number.desc()).limit(look.limit);
                    let mut query = query.into_boxed::<$Db>();
                    match side {
                        Side::Caller(id) => query = query.filter($caller.eq(id)),
                        Side::Callee(id) => query = query.filter($callee.eq(id)),
                        Side::All => {}
                    }
                    if let Some(number) = look.before {
                        query = query.filter($number.lt(number.0));
                    }
                    query
                }};
            }

            /// However they stand.
            fn of_any(
                conn: &mut $Conn,
                side: Side,
                look: &Look<'_>,
            ) -> Result<Vec<i64>, Error> {
                use delegations as d;
                let mut query = newest!(d::table, d::number, d::caller_id, d::callee_id, side, look);
                if let Some(instant) = look.older_than {
                    query = query.filter(d::created_at.lt(Ts::from(instant)));
                }
                Ok(query.load(conn)?)
            }

            fn of_live(
                conn: &mut $Conn,
                side: Side,
                look: &Look<'_>,
            ) -> Result<Vec<i64>, Error> {
                use delegations_live as l;
                let all = l::table.inner_join(delegations::table.on(OfLive));
                let mut query = newest!(all, l::number, l::caller_id, l::callee_id, side, look);
                if let Some(instant) = look.older_than {
                    query = query.filter(delegations::created_at.lt(Ts::from(instant)));
                }
                let words: Vec<&str> = look.statuses.iter().map(|one| one.as_str()).collect();
                Ok(query.filter(delegations::status.eq_any(words)).load(conn)?)
            }

            fn of_ended(
                conn: &mut $Conn,
                side: Side,
                standing: &'static str,
                look: &Look<'_>,
            ) -> Result<Vec<i64>, Error> {
                use delegations_ended as e;
                let Some(instant) = look.older_than else {
                    let query = newest!(e::table, e::number, e::caller_id, e::callee_id, side, look);
                    return Ok(query.filter(e::standing.eq(standing)).load(conn)?);
                };
                let all = e::table.inner_join(delegations::table.on(delegations::number.eq(e::number)));
                let query = newest!(all, e::number, e::caller_id, e::callee_id, side, look)
                    .filter(delegations::created_at.lt(Ts::from(instant)));
                Ok(query.filter(e::standing.eq(standing)).load(conn)?)
            }

            /// The newest numbers that are looked for.
            pub(in crate::store) fn numbers(
                conn: &mut $Conn,
                look: &Look<'_>,
            ) -> Result<Vec<i64>, Error> {
                let sides: &[Side] = match look.parties {
                    Parties::Any => &[Side::All],
                    Parties::Either(id) => &[Side::Caller(Id(id.0)), Side::Callee(Id(id.0))],
                    Parties::Caller(id) => &[Side::Caller(Id(id.0))],
                };
                let mut found = Vec::new();
                for side in sides {
                    if look.statuses.is_empty() {
                        found.extend(of_any(conn, *side, look)?);
                    }
                    for standing in standings(look.statuses) {
                        found.extend(if standing == LIVE {
                            of_live(conn, *side, look)?
                        } else {
                            of_ended(conn, *side, standing, look)?
                        });
                    }
                }
                Ok(merged(found, look.limit, Order::NewestFirst))
            }

            pub(in crate::store) fn delegations(
                conn: &mut $Conn,
                filter: &DelegationFilter,
            ) -> Result<Vec<DelegationLine>, Error> {
                use delegations as d;
                let newest = numbers(conn, &Look::from(filter))?;
                let rows: Vec<LineTuple> = d::table
                    .filter(d::number.eq_any(newest))
                    .select((
                        (
                            d::caller_id,
                            d::delegation_id,
                            d::callee_id,
                            TaskHead,
                            d::status,
                        ),
                        (
                            ResultHead,
                            d::error_detail,
                            d::error_class,
                            d::last_heartbeat,
                        ),
                        (d::deadline, d::attempt, d::created_at, d::updated_at),
                        d::number,
                    ))
                    .order(d::number.desc())
                    .load(conn)?;
                rows.into_iter().map(read_line).collect()
            }

            /// Live ones one by one, of which there are only so many; ended ones were counted when they ended.
            pub(in crate::store) fn counts(conn: &mut $Conn) -> Result<Vec<(Status, i64)>, Error> {
                use feed_position::{cancelled, completed, failed};
                let mut found: Vec<(String, i64)> = delegations_live::table
                    .inner_join(delegations::table.on(OfLive))
                    .group_by(delegations::status)
                    .select((delegations::status, diesel::dsl::count_star()))
                    .load(conn)?;
                let ended: (i64, i64, i64) = feed_position::table
                    .select((completed, failed, cancelled))
                    .first(conn)?;
                let words = [Status::Completed, Status::Failed, Status::Cancelled];
                let words = words.map(|status| status.as_str().to_owned());
                found.extend(words.into_iter().zip([ended.0, ended.1, ended.2]));
                let number = |status: &Status| {
                    let of = found.iter().find(|(word, _)| word == status.as_str());
                    (*status, of.map_or(0, |(_, number)| *number))
                };
                Ok(Status::ALL.iter().map(number).collect())
            }

            pub(in crate::store) fn owed_replies(
                conn: &mut $Conn,
                after: Option<Position>,
                limit: i64,
            ) -> Result<Page<OwedReply>, Error> {
                use delegations_owed as o;
                let rows: Vec<(i64, LoadedRow)> = o::table
                    .inner_join(delegations::table.on(OfOwed))
                    .filter(o::number.gt(after_number(after)))
                    .order(o::number)
                    .select((o::number, LoadedRow::as_select()))
                    .limit(limit)
                    .load(conn)?;
                let last = rows.last().map(|(number, _)| Position(*number));
                let mut owed = Vec::with_capacity(rows.len());
                for loaded in rows.into_iter().filter_map(|(_, row)| row.read_or_skip()) {
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

            macro_rules! under_audit {
                () => {{
                    use delegations as d;
                    d::table.select((
                        d::number,
                        CallerExists,
                        (
                            (d::caller_id, d::delegation_id, d::status, d::ended_at, IsListed),
                            (ResultRows, Replies, d::reply, d::deadline),
                        ),
                    ))
                }};
            }

            pub(in crate::store) fn audit(
                conn: &mut $Conn,
                after: Option<Position>,
                limit: i64,
                limits: AuditLimits,
            ) -> Result<Page<Audited>, Error> {
                use delegations::number;
                let rows: Vec<AuditRow> = under_audit!()
                    .filter(number.gt(after_number(after)))
                    .order(number)
                    .limit(limit)
                    .load(conn)?;
                let last = rows.last().map(|(last, ..)| Position(*last));
                let rows = audited(rows, limits)?;
                Ok(Page { rows, last })
            }

            pub(in crate::store) fn audit_newest(
                conn: &mut $Conn,
                limit: i64,
                limits: AuditLimits,
            ) -> Result<Vec<Audited>, Error> {
                use delegations::number;
                // A bound, if one that all keep: so the plan is a range of the index on either database.
                let newest = under_audit!()
                    .filter(number.le(i64::MAX))
                    .order(number.desc())
                    .limit(limit);
                audited(newest.load(conn)?, limits)
            }

            /// Its number, whether its caller is there still, and what is judged.
            type AuditRow = (i64, bool, AuditTuple);

            fn audited(rows: Vec<AuditRow>, limits: AuditLimits) -> Result<Vec<Audited>, Error> {
                // A purged caller took its feed with it; there is nothing left to compare with.
                let rows = rows.into_iter().filter(|(_, exists, _)| *exists);
                let rows = rows.map(|(.., row)| read_audited(row, limits));
                rows.collect()
            }
        }
    };
}
pub(in crate::store) use read_delegations;
