//! Nodes and their leases, once for both databases. Every instant here is by the database's own clock.

macro_rules! leases {
    ($Conn:ty) => {
        pub(in crate::store) mod leases {
            use std::time::Duration;

            use diesel::prelude::*;

            use super::{in_transaction, lock_idle, plan_anew, take_places};
            use crate::domain::{NodeId, Position};
            use crate::store::fragments::{FromNow, GoneNodes, IsLive, NothingLive, Now};
            use crate::store::schema::{feed_position, nodes, push_receivers};
            use crate::store::types::Id;
            use crate::store::{Error, Gone, NodeView, Span};

            fn from_now(length: Duration) -> FromNow {
                FromNow(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))
            }

            /// Makes a process a node, between two batches of the others: one that does not count it is over.
            pub(in crate::store) fn join(
                conn: &mut $Conn,
                node: NodeId,
                length: Duration,
            ) -> Result<(), Error> {
                let id = Id(node.0);
                in_transaction(conn, |conn| {
                    diesel::update(feed_position::table.find(1))
                        .set(feed_position::nodes.eq(feed_position::nodes + 1))
                        .execute(conn)?;
                    diesel::insert_into(nodes::table)
                        .values((
                            nodes::id.eq(id),
                            nodes::holder.eq(id),
                            nodes::expires_at.eq(from_now(length)),
                            nodes::started_at.eq(Now),
                        ))
                        .execute(conn)?;
                    Ok(())
                })
            }

            /// Fails unless this node still holds its own row; renews its lease when a length is given. Takes this many
            /// places of the feed, and with them the lock that keeps other batches out.
            pub(in crate::store) fn prove(
                conn: &mut $Conn,
                node: NodeId,
                renewal: Option<Duration>,
                number: Option<i64>,
            ) -> Result<Option<Span>, Error> {
                let id = Id(node.0);
                if let Some(length) = renewal {
                    let own = nodes::table.find(id).filter(nodes::holder.eq(id));
                    let renewed = diesel::update(own)
                        .set(nodes::expires_at.eq(from_now(length)))
                        .execute(conn)?;
                    if renewed != 1 {
                        return Err(Error::Fenced);
                    }
                    plan_anew(conn)?;
                }
                let Some(number) = number else {
                    return Ok(None);
                };
                let last = take_places(conn, node, number)?.ok_or(Error::Fenced)?;
                let before = Position(last.saturating_sub(number));
                Ok(Some(Span::of(before, number)))
            }

            /// Everything that they held, too. One that is writing at this moment is left for the next time.
            pub(in crate::store) fn take_over(
                conn: &mut $Conn,
                node: NodeId,
                gone: Gone,
            ) -> Result<(), Error> {
                let own = Id(node.0);
                let gone = GoneNodes {
                    but: own,
                    all_expired: gone == Gone::Expired,
                };
                let gone = lock_idle(conn, gone)?;
                let told = push_receivers::lease_owner.eq_any(&gone);
                diesel::update(push_receivers::table.filter(IsLive).filter(told))
                    .set(push_receivers::lease_owner.eq(own))
                    .execute(conn)?;
                diesel::update(nodes::table.filter(nodes::holder.eq_any(gone)))
                    .set(nodes::holder.eq(own))
                    .execute(conn)?;
                Ok(())
            }

            /// Lets the lease end with its beginning, which says that nobody waits for this node to renew it.
            pub(in crate::store) fn leave(conn: &mut $Conn, node: NodeId) -> Result<(), Error> {
                let own = nodes::table
                    .find(Id(node.0))
                    .filter(nodes::expires_at.gt(nodes::started_at));
                let left = diesel::update(own)
                    .set(nodes::expires_at.eq(nodes::started_at))
                    .execute(conn)?;
                count_out(conn, left)
            }

            pub(in crate::store) fn forget(conn: &mut $Conn, node: NodeId) -> Result<(), Error> {
                let own = Id(node.0);
                let ended = nodes::table
                    .filter(nodes::holder.eq(own))
                    .filter(nodes::id.ne(own))
                    .filter(NothingLive);
                let fell = ended.filter(nodes::expires_at.gt(nodes::started_at));
                let fell = diesel::delete(fell).execute(conn)?;
                diesel::delete(ended).execute(conn)?;
                count_out(conn, fell)
            }

            /// Those who are not told any more of what is committed. One that was taken over from may live on for a moment,
            /// and is told as long as it is remembered.
            fn count_out(conn: &mut $Conn, number: usize) -> Result<(), Error> {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                diesel::update(feed_position::table.find(1))
                    .set(feed_position::nodes.eq(feed_position::nodes - number))
                    .execute(conn)?;
                Ok(())
            }

            pub(in crate::store) fn nodes(conn: &mut $Conn) -> Result<Vec<NodeView>, Error> {
                let rows: Vec<(Id, Id, bool)> = nodes::table
                    .select((nodes::id, nodes::holder, nodes::expires_at.lt(Now)))
                    .load(conn)?;
                let view = |(id, holder, expired): (Id, Id, bool)| NodeView {
                    id: NodeId(id.0),
                    holder: NodeId(holder.0),
                    expired,
                };
                Ok(rows.into_iter().map(view).collect())
            }
        }
    };
}
pub(in crate::store) use leases;
