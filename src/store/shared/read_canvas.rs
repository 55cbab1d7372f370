//! Reads of what people look at, once for both databases.

macro_rules! read_canvas {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_canvas {
            use std::collections::HashSet;

            use diesel::dsl::count_star;
            use diesel::prelude::*;

            use super::read_delegations::numbers;
            use crate::domain::{
                ActivityType, DelegationKey, Position, WorkspaceId, WorkspaceStatus,
            };
            use crate::store::canvas::{
                FaceRow, LineRow, MarkTuple, RelativeRow, key_of, read_mark,
            };
            use crate::store::fragments::{
                Callee, Caller, IsChild, IsRepeat, IsRepeatable, Number, OfLive, TellsOfEnding,
            };
            use crate::store::life::{id_text, unreadable, word};
            use crate::store::lines::Look;
            use crate::store::schema::{activity_logs, delegations, delegations_live, workspaces};
            use crate::store::types::{Id, Ts};
            use crate::store::{
                Error, Faces, Family, Line, LineFilter, LinePage, LiveMarks, Parties, Relative,
                ReplyState, Tally, ToldOf,
            };

            /// How many lines are read at once when many are looked through.
            const CHUNK: usize = 250;
            /// How many are counted at once.
            const COUNTED: usize = 5_000;
            /// How many of exactly one id are found.
            const EXACT: i64 = 500;

            pub(in crate::store) fn faces(conn: &mut $Conn, limit: i64) -> Result<Faces, Error> {
                use workspaces as w;
                let removed = WorkspaceStatus::Removed.as_str();
                let newest: Vec<FaceRow> = w::table
                    .filter(w::status.ne(removed))
                    .order((w::created_at.desc(), w::id.desc()))
                    .limit(limit)
                    .select(FaceRow::as_select())
                    .load(conn)?;
                let all = w::table.filter(w::status.ne(removed));
                Ok(Faces {
                    newest: newest
                        .into_iter()
                        .map(FaceRow::read)
                        .collect::<Result<_, _>>()?,
                    total: all.select(count_star()).first(conn)?,
                })
            }

            pub(in crate::store) fn live_marks(
                conn: &mut $Conn,
                party: Option<WorkspaceId>,
                limit: i64,
            ) -> Result<LiveMarks, Error> {
                use delegations as d;
                use delegations_live as l;
                let mut newest = l::table
                    .inner_join(d::table.on(OfLive))
                    .select((
                        d::caller_id,
                        d::delegation_id,
                        d::callee_id,
                        d::status,
                        d::waiting_for,
                    ))
                    .order(l::number.desc())
                    .limit(limit)
                    .into_boxed::<$Db>();
                let mut total = l::table.select(count_star()).into_boxed::<$Db>();
                if let Some(party) = party.map(|party| Id(party.0)) {
                    newest = newest.filter(l::caller_id.eq(party).or(l::callee_id.eq(party)));
                    total = total.filter(l::caller_id.eq(party).or(l::callee_id.eq(party)));
                }
                let newest: Vec<MarkTuple> = newest.load(conn)?;
                Ok(LiveMarks {
                    newest: newest
                        .into_iter()
                        .map(read_mark)
                        .collect::<Result<_, _>>()?,
                    total: total.first(conn)?,
                })
            }

            /// The lines of these numbers, newest first.
            fn read_lines(
                conn: &mut $Conn,
                numbers: &[i64],
                repeatable: bool,
            ) -> Result<Vec<Line>, Error> {
                if numbers.is_empty() {
                    return Ok(Vec::new());
                }
                let mut rows = delegations::table
                    .filter(delegations::number.eq_any(numbers))
                    .order(delegations::number.desc())
                    .select(LineRow::as_select())
                    .into_boxed::<$Db>();
                if repeatable {
                    rows = rows.filter(IsRepeatable);
                }
                let rows: Vec<LineRow> = rows.load(conn)?;
                rows.into_iter().map(LineRow::read).collect()
            }

            fn look(filter: &LineFilter, before: Option<Position>, limit: usize) -> Look<'_> {
                Look {
                    parties: filter.parties,
                    statuses: &filter.statuses,
                    before,
                    older_than: None,
                    limit: i64::try_from(limit).unwrap_or(i64::MAX),
                }
            }

            /// Those of exactly the id that is looked for, be they more than a page: later pages leave them out.
            fn exact(conn: &mut $Conn, filter: &LineFilter) -> Result<Vec<Line>, Error> {
                let Some(search) = filter.search.as_ref().filter(|_| filter.is_first) else {
                    return Ok(Vec::new());
                };
                let mut found = delegations::table
                    .filter(delegations::delegation_id.eq(id_text(&search.id)))
                    .select(delegations::number)
                    .order(delegations::caller_id)
                    .limit(EXACT)
                    .into_boxed::<$Db>();
                match filter.parties {
                    Parties::Any => {}
                    Parties::Either(id) => {
                        found = found.filter(Caller.eq(Id(id.0)).or(Callee.eq(Id(id.0))));
                    }
                    Parties::Caller(id) => found = found.filter(Caller.eq(Id(id.0))),
                }
                if let Some(before) = filter.before {
                    found = found.filter(Number.lt(before.0));
                }
                let found: Vec<i64> = found.load(conn)?;
                let mut lines = read_lines(conn, &found, filter.repeatable)?;
                lines.retain(|line| filter.means(&line.line));
                Ok(lines)
            }

            pub(in crate::store) fn lines(
                conn: &mut $Conn,
                filter: &LineFilter,
            ) -> Result<LinePage, Error> {
                let exact = exact(conn, filter)?;
                if !exact.is_empty() {
                    return Ok(LinePage {
                        searched: exact.len(),
                        lines: exact,
                        next: Some(filter.before.unwrap_or(Position(i64::MAX))),
                    });
                }
                let mut lines = Vec::new();
                let (next, searched) = look_through(conn, filter, |line| lines.push(line))?;
                Ok(LinePage {
                    lines,
                    next,
                    searched,
                })
            }

            /// Hands on what is meant, newest first, until it is enough; answers with where to go on, and how many were
            /// looked at.
            fn look_through(
                conn: &mut $Conn,
                filter: &LineFilter,
                mut take: impl FnMut(Line),
            ) -> Result<(Option<Position>, usize), Error> {
                // One more than fits says whether more follow.
                let at_once = if filter.search.is_some() || filter.repeatable {
                    CHUNK
                } else {
                    filter.limit.saturating_add(1)
                };
                let (mut before, mut searched, mut taken) = (filter.before, 0, 0);
                while searched < filter.look {
                    let wanted = at_once.min(filter.look.saturating_sub(searched));
                    let found = numbers(conn, &look(filter, before, wanted))?;
                    for line in read_lines(conn, &found, filter.repeatable)? {
                        let Position(number) = line.line.number;
                        if !filter.finds(&line.line) {
                            continue;
                        }
                        if taken == filter.limit {
                            let passed = found.iter().filter(|other| **other > number).count();
                            let next = Position(number.saturating_add(1));
                            return Ok((Some(next), searched.saturating_add(passed)));
                        }
                        take(line);
                        taken = taken.saturating_add(1);
                    }
                    searched = searched.saturating_add(found.len());
                    if found.len() < wanted {
                        return Ok((None, searched));
                    }
                    before = found.last().copied().map(Position);
                }
                Ok((before, searched))
            }

            /// The numbers of these, newest first.
            fn numbers_of(conn: &mut $Conn, keys: &[DelegationKey]) -> Result<Vec<i64>, Error> {
                use delegations::{caller_id, delegation_id, number};
                let ids: HashSet<_> = keys.iter().map(|key| id_text(&key.id)).collect();
                let found: Vec<(i64, Id, String)> = delegations::table
                    .filter(delegation_id.eq_any(ids))
                    .select((number, caller_id, delegation_id))
                    .load(conn)?;
                let keys: HashSet<&DelegationKey> = keys.iter().collect();
                let meant = found.into_iter();
                let meant = meant.filter(|(_, caller, id)| keys.contains(&key_of(*caller, id)));
                Ok(meant.map(|(place, ..)| place).collect())
            }

            pub(in crate::store) fn lines_of(
                conn: &mut $Conn,
                keys: &[DelegationKey],
            ) -> Result<Vec<Line>, Error> {
                let found = numbers_of(conn, keys)?;
                read_lines(conn, &found, false)
            }

            pub(in crate::store) fn repeatable(
                conn: &mut $Conn,
                keys: &[DelegationKey],
            ) -> Result<Vec<DelegationKey>, Error> {
                use delegations::{caller_id, delegation_id, number};
                let found = numbers_of(conn, keys)?;
                let rows: Vec<(Id, String)> = delegations::table
                    .filter(number.eq_any(found))
                    .filter(IsRepeatable)
                    .select((caller_id, delegation_id))
                    .load(conn)?;
                Ok(rows
                    .into_iter()
                    .map(|(caller, id)| key_of(caller, &id))
                    .collect())
            }

            pub(in crate::store) fn tally(
                conn: &mut $Conn,
                filter: &LineFilter,
            ) -> Result<Tally, Error> {
                if filter.search.is_some() {
                    let mut matched = exact(conn, filter)?.len();
                    let count = |_| matched = matched.saturating_add(1);
                    let (next, _) = look_through(conn, filter, count)?;
                    return Ok(Tally {
                        matched,
                        more: next.is_some(),
                    });
                }
                // One more than is counted says whether there are more.
                let wanted = filter.limit.saturating_add(1);
                let mut found = numbers(conn, &look(filter, filter.before, wanted))?;
                let more = found.len() == wanted;
                found.truncate(filter.limit);
                let mut matched = found.len();
                if filter.repeatable {
                    matched = 0;
                    for some in found.chunks(COUNTED) {
                        let of = delegations::table.filter(delegations::number.eq_any(some));
                        let of = of.filter(IsRepeatable).select(count_star());
                        let number: i64 = of.first(conn)?;
                        matched = matched.saturating_add(usize::try_from(number).unwrap_or(0));
                    }
                }
                Ok(Tally { matched, more })
            }

            pub(in crate::store) fn parent(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<DelegationKey>, Error> {
                use delegations::{parent_caller_id, parent_delegation_id};
                let found: Option<(Option<Id>, Option<String>)> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((parent_caller_id, parent_delegation_id))
                    .first(conn)
                    .optional()?;
                let parent = found.and_then(|(caller, id)| caller.zip(id));
                Ok(parent.map(|(caller, id)| key_of(caller, &id)))
            }

            fn relatives(rows: Vec<RelativeRow>) -> Result<Vec<Relative>, Error> {
                rows.into_iter().map(RelativeRow::read).collect()
            }

            fn relative(conn: &mut $Conn, caller: Id, id: &str) -> Result<Option<Relative>, Error> {
                let found: Option<RelativeRow> = delegations::table
                    .find((caller, id))
                    .select(RelativeRow::as_select())
                    .first(conn)
                    .optional()?;
                found.map(RelativeRow::read).transpose()
            }

            pub(in crate::store) fn family(
                conn: &mut $Conn,
                key: &DelegationKey,
                limit: i64,
            ) -> Result<Family, Error> {
                use delegations as d;
                let (caller, id) = (Id(key.caller.0), id_text(&key.id));
                let above: Option<(Option<Id>, Option<String>, Option<String>)> = d::table
                    .find((caller, &*id))
                    .select((d::parent_caller_id, d::parent_delegation_id, d::retry_of))
                    .first(conn)
                    .optional()?;
                let Some((parent_caller, parent_id, retry_of)) = above else {
                    return Ok(Family::default());
                };
                let parent = parent_caller.zip(parent_id);
                let children = d::table
                    .filter(IsChild)
                    .filter(d::parent_caller_id.eq(caller))
                    .filter(d::parent_delegation_id.eq(&*id))
                    .order(d::number)
                    .limit(limit)
                    .select(RelativeRow::as_select())
                    .load(conn)?;
                let repeats = d::table
                    .filter(IsRepeat)
                    .filter(d::caller_id.eq(caller))
                    .filter(d::retry_of.eq(&*id))
                    .order(d::number)
                    .limit(limit)
                    .select(RelativeRow::as_select())
                    .load(conn)?;
                Ok(Family {
                    parent_key: parent.as_ref().map(|(caller, id)| key_of(*caller, id)),
                    parent: match &parent {
                        Some((caller, id)) => relative(conn, *caller, id)?,
                        None => None,
                    },
                    children: relatives(children)?,
                    retried_from: match &retry_of {
                        Some(id) => relative(conn, caller, id)?,
                        None => None,
                    },
                    retried_as: relatives(repeats)?,
                })
            }

            pub(in crate::store) fn told_of(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<ToldOf>, Error> {
                use activity_logs as a;
                let found: Option<(i64, String)> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((delegations::number, delegations::reply))
                    .first(conn)
                    .optional()?;
                let Some((number, reply)) = found else {
                    return Ok(None);
                };
                let rows: Vec<(String, i64, Ts)> = a::table
                    .filter(TellsOfEnding)
                    .filter(a::delegation_number.eq(number))
                    .select((a::activity_type, a::seq, a::created_at))
                    .load(conn)?;
                let read = |(kind, seq, at): (String, i64, Ts)| {
                    let kind = word("activity_type", &kind, ActivityType::parse)?;
                    Ok((kind, Position(seq), at.into()))
                };
                Ok(Some(ToldOf {
                    reply: match &*reply {
                        "none" => ReplyState::None,
                        "owed" => ReplyState::Owed,
                        "written" => ReplyState::Written,
                        other => return Err(unreadable("reply", other)),
                    },
                    rows: rows.into_iter().map(read).collect::<Result<_, Error>>()?,
                }))
            }
        }
    };
}
pub(in crate::store) use read_canvas;
