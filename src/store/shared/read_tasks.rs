//! Reads of delegations as A2A tasks, once for both databases.

macro_rules! read_tasks {
    ($Conn:ty, $Db:ty) => {
        pub(in crate::store) mod read_tasks {
            use diesel::prelude::*;

            use crate::domain::{
                DelegationId, DelegationKey, Envelope, Json, Position, Said, Status,
            };
            use crate::store::life::{id_text, word};
            use crate::store::rows::EventRead;
            use crate::store::schema::{delegations, structure_events};
            use crate::store::types::{Id, Ts};
            use crate::store::{Classes, Error, EventView, HANDED_MAX, Handed, HandedFilter};

            pub(in crate::store) fn said(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<Said>, Error> {
                let said: Option<(String, Option<String>)> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((delegations::task, delegations::message))
                    .first(conn)
                    .optional()?;
                Ok(said.map(|(text, message)| Said {
                    text: text.into(),
                    message: message.map(|message| Json(message.into())),
                }))
            }

            pub(in crate::store) fn envelope(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<Option<Envelope>, Error> {
                let columns: Option<(Option<String>, Option<String>)> = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select((delegations::message, delegations::context_id))
                    .first(conn)
                    .optional()?;
                let Some((Some(message), Some(context))) = columns else {
                    return Ok(None);
                };
                Ok(Some(Envelope {
                    message: Json(message.into()),
                    context: context.into(),
                }))
            }

            pub(in crate::store) fn course(
                conn: &mut $Conn,
                key: &DelegationKey,
                limit: i64,
            ) -> Result<Vec<EventView>, Error> {
                use structure_events::{delegation_id, seq, workspace_id};
                let events: Vec<EventRead> = structure_events::table
                    .filter(workspace_id.eq(Id(key.caller.0)))
                    .filter(delegation_id.eq(id_text(&key.id)))
                    .order(seq)
                    .limit(limit)
                    .select(EventRead::as_select())
                    .load(conn)?;
                Ok(events.into_iter().map(EventView::from).collect())
            }

            /// Place, time of the last change, id, status, and why it failed.
            type HandedRow = (i64, Ts, String, String, Option<String>);

            pub(in crate::store) fn handed(
                conn: &mut $Conn,
                filter: &HandedFilter,
            ) -> Result<Handed, Error> {
                use delegations::{
                    callee_id, caller_id, context_id, delegation_id, error_class, number, status,
                    updated_at,
                };
                let mut query = delegations::table
                    .filter(caller_id.eq(Id(filter.caller.0)))
                    .filter(callee_id.eq(Id(filter.target.0)))
                    .order(number.desc())
                    .limit(HANDED_MAX)
                    .select((number, updated_at, delegation_id, status, error_class))
                    .into_boxed::<$Db>();
                if let Some(context) = &filter.context {
                    query = query.filter(context_id.eq(context));
                }
                let rows: Vec<HandedRow> = query.load(conn)?;
                let mut found = Vec::with_capacity(rows.len());
                for (place, at, id, text, class) in rows {
                    let stands = word("status", &text, Status::parse)?;
                    found.push(((at.into(), Position(place)), stands, class, id));
                }
                found.retain(|(place, stands, class, _)| {
                    let class = class.as_deref().unwrap_or_default();
                    let meant = |standings: &Vec<(Status, Classes)>| {
                        let mut meant = standings.iter();
                        meant.any(|(word, classes)| word == stands && classes.mean(class))
                    };
                    filter.changed_after.is_none_or(|after| place.0 >= after)
                        && filter.standings.as_ref().is_none_or(meant)
                });
                found.sort_unstable_by(|one, other| other.0.cmp(&one.0));
                let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
                if let Some(after) = filter.after {
                    found.retain(|(place, ..)| *place < after);
                }
                let limit = usize::try_from(filter.limit).unwrap_or(0);
                let more = found.len() > limit;
                found.truncate(limit);
                let key = |(place, _, _, id): (_, _, _, String)| {
                    let id = DelegationId::from_text(&id);
                    let caller = filter.caller;
                    (place, DelegationKey { caller, id })
                };
                Ok(Handed {
                    keys: found.into_iter().map(key).collect(),
                    more,
                    total,
                })
            }
        }
    };
}
pub(in crate::store) use read_tasks;
