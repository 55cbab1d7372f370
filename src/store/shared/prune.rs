//! Forgetting what is old, once for both databases.

macro_rules! prune {
    ($Conn:ty) => {
        pub(in crate::store) mod prune {
            use diesel::prelude::*;

            use crate::domain::{ActivityType, Position, Timestamp};
            use crate::store::schema::{activity_logs, inbox_delivery_state, structure_events};
            use crate::store::types::{Id, Ts};
            use crate::store::{Error, Prune, Written};

            /// Where to look on behind a page: not when it was short, and not when it reached what is young, since
            /// places and times grow together.
            fn next(page: &[(i64, Ts)], limit: i64, before: Timestamp) -> Option<Position> {
                let full = i64::try_from(page.len()).is_ok_and(|length| length >= limit);
                let (place, at) = page.last().filter(|_| full)?;
                (*at < Ts::from(before)).then_some(Position(*place))
            }

            pub(in crate::store) fn feed(conn: &mut $Conn, of: &Prune) -> Result<Written, Error> {
                use activity_logs::{activity_type, created_at, seq, workspace_id};
                let own = Id(of.workspace.0);
                let acknowledged: Option<i64> = inbox_delivery_state::table
                    .find(own)
                    .select(inbox_delivery_state::last_acked_seq)
                    .first(conn)
                    .optional()?;
                let words = ActivityType::ALL.iter().map(|one| one.as_str());
                let mut page: Vec<(i64, Ts)> = Vec::new();
                for word in words.clone() {
                    let of_type = activity_logs::table
                        .filter(workspace_id.eq(own))
                        .filter(activity_type.eq(word))
                        .filter(seq.gt(of.after.0))
                        .order(seq)
                        .select((seq, created_at))
                        .limit(of.limit);
                    page.extend(of_type.load::<(i64, Ts)>(conn)?);
                }
                page.sort_unstable();
                page.truncate(usize::try_from(of.limit).unwrap_or(0));
                let Some((last, _)) = page.last() else {
                    return Ok(Written::Pruned {
                        deleted: 0,
                        next: None,
                    });
                };
                let taken = activity_type
                    .ne(ActivityType::A2aReceive.as_str())
                    .or(seq.le(acknowledged.unwrap_or(0)));
                let old = created_at.lt(Ts::from(of.before)).and(taken);
                let of_page = activity_logs::table
                    .filter(workspace_id.eq(own))
                    .filter(activity_type.eq_any(words))
                    .filter(seq.gt(of.after.0))
                    .filter(seq.le(*last));
                let expired = of_page.filter(old.or(created_at.lt(Ts::from(of.hard_before))));
                Ok(Written::Pruned {
                    deleted: diesel::delete(expired).execute(conn)?,
                    next: next(&page, of.limit, of.before),
                })
            }

            pub(in crate::store) fn events(
                conn: &mut $Conn,
                after: Position,
                limit: i64,
                before: Timestamp,
            ) -> Result<Written, Error> {
                use structure_events::{created_at, seq};
                let page: Vec<(i64, Ts)> = structure_events::table
                    .filter(seq.gt(after.0))
                    .order(seq)
                    .select((seq, created_at))
                    .limit(limit)
                    .load(conn)?;
                let Some((last, _)) = page.last() else {
                    return Ok(Written::Pruned {
                        deleted: 0,
                        next: None,
                    });
                };
                let of_page = structure_events::table
                    .filter(seq.gt(after.0))
                    .filter(seq.le(*last));
                let deleted = diesel::delete(of_page.filter(created_at.lt(Ts::from(before))));
                Ok(Written::Pruned {
                    deleted: deleted.execute(conn)?,
                    next: next(&page, limit, before),
                })
            }
        }
    };
}
pub(in crate::store) use prune;
