//! One commit, once for both databases: apply the writes, take positions, store what is shown.

macro_rules! commit {
    ($Conn:ty) => {
        pub(in crate::store) mod commit {
            use std::time::Instant;

            use diesel::connection::{AnsiTransactionManager, TransactionManager};
            use diesel::prelude::*;

            use super::{in_transaction, insert_events, insert_rows, leases, notify, prune};
            use super::{write_delegations as delegation, write_workspaces as workspace};
            use crate::domain::{DelegationKey, FeedRow, Position};
            use crate::store::batch::{Batch, Item, Refusal};
            use crate::store::fragments::IsReply;
            use crate::store::rows::{ActivityRow, EventRow};
            use crate::store::schema::{activity_logs, feed_position};
            use crate::store::session::{Attempt, Places, Session};
            use crate::store::telling;
            use crate::store::types::Id;
            use crate::store::{Commit, Error, Write, Written};

            /// How often a batch is tried again that another node's batch was in the way of.
            const DEADLOCKS: usize = 3;

            pub(in crate::store) fn commit(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                written: &dyn Fn(),
            ) -> Result<Commit, Error> {
                if !is_idle(conn) {
                    return Err(Error::Unavailable("a transaction was left open".to_owned()));
                }
                let mut result = together(conn, session, writes, written);
                for _ in 0..DEADLOCKS {
                    if !result.as_ref().is_err_and(Error::is_deadlock) || !is_idle(conn) {
                        break;
                    }
                    result = together(conn, session, writes, written);
                }
                if is_idle(conn) {
                    result
                } else {
                    Err(Error::Unavailable(
                        "a transaction could not be ended".to_owned(),
                    ))
                }
            }

            /// Whether no transaction is open, as far as the connection knows.
            fn is_idle(conn: &mut $Conn) -> bool {
                let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
                matches!(status.transaction_depth(), Ok(None))
            }

            fn together(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                written: &dyn Fn(),
            ) -> Result<Commit, Error> {
                match transact(conn, session, writes, false, written) {
                    Err(Error::Refused(_) | Error::Unreadable { .. }) => {
                        one_by_one(conn, session, writes, written)
                    }
                    other => other,
                }
            }

            /// One of the writes is refused: each gets a transaction of its own, so that the others are committed.
            fn one_by_one(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                written: &dyn Fn(),
            ) -> Result<Commit, Error> {
                let mut whole = Commit::default();
                for write in writes {
                    let one = std::slice::from_ref(write);
                    match transact(conn, session, one, true, written) {
                        Ok(commit) => {
                            whole.unbroken_since = commit.unbroken_since;
                            whole.written.extend(commit.written);
                            whole.published.extend(commit.published);
                            whole.replies_owed += commit.replies_owed;
                            whole.replies_written += commit.replies_written;
                        }
                        Err(error @ (Error::Unavailable(_) | Error::Fenced)) => return Err(error),
                        Err(error) => {
                            whole
                                .written
                                .push(Written::Failed(error.to_string().into()));
                        }
                    }
                }
                Ok(whole)
            }

            fn transact(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                careful: bool,
                written: &dyn Fn(),
            ) -> Result<Commit, Error> {
                let began = Instant::now();
                let attempt = in_transaction(conn, |conn| {
                    let attempt = attempt(conn, session, writes, careful)?;
                    written();
                    Ok(attempt)
                })?;
                session.committed(began, attempt.renewed, attempt.places);
                let mut commit = attempt.commit;
                commit.unbroken_since = session.unbroken_since();
                Ok(commit)
            }

            fn attempt(
                conn: &mut $Conn,
                session: &Session,
                writes: &[Write],
                careful: bool,
            ) -> Result<Attempt, Error> {
                let node = session.lease.node();
                // A transaction without a write would succeed even on a full disk.
                let renewal = session.renewal(writes.is_empty());
                leases::prove(conn, node, renewal)?;
                let mut batch = Batch::new(writes.len(), careful, node);
                for write in writes {
                    let written = apply(conn, write, &mut batch)?;
                    batch.written.push(written);
                    session.progressed();
                }
                if let Some(payload) = telling::payload(&batch, writes) {
                    notify(conn, &payload)?;
                }
                let (commit, places) = store_items(conn, batch)?;
                session.progressed();
                Ok(Attempt {
                    commit,
                    renewed: renewal.is_some(),
                    places,
                })
            }

            fn apply<'a>(
                conn: &mut $Conn,
                write: &'a Write,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                match write {
                    Write::Accept(accept) => delegation::accept(conn, accept, batch),
                    Write::Advance(advance) => delegation::advance(conn, advance, batch),
                    Write::Visit(advance) => {
                        let written = delegation::advance(conn, advance, batch)?;
                        batch.moved.push(&advance.key);
                        Ok(written)
                    }
                    Write::DeliverOwed { key, reply } => {
                        delegation::deliver_owed(conn, key, reply, batch)
                    }
                    Write::Log(row) => workspace::log(conn, row, batch),
                    Write::Record(event) => {
                        workspace::show_events(conn, std::slice::from_ref(&**event), batch)?;
                        Ok(Written::Done)
                    }
                    Write::Acknowledge { workspace, upto } => {
                        workspace::acknowledge(conn, *workspace, *upto)
                    }
                    Write::CreateWorkspace {
                        workspace,
                        token,
                        events,
                    } => workspace::create(conn, workspace, token.as_ref(), events, batch),
                    Write::PatchWorkspace {
                        id,
                        patch,
                        events,
                        at,
                    } => workspace::patch(conn, *id, patch, events, *at, batch),
                    Write::RemoveWorkspaces {
                        ids,
                        purge,
                        events,
                        at,
                    } => {
                        workspace::remove(conn, ids, *purge, *at)?;
                        workspace::show_events(conn, events, batch)?;
                        Ok(Written::Done)
                    }
                    Write::Register(registration) => workspace::register(conn, registration, batch),
                    Write::MintToken { token, limit } => workspace::mint_token(conn, token, *limit),
                    Write::RevokeToken {
                        workspace,
                        token,
                        at,
                    } => workspace::revoke_token(conn, *workspace, *token, *at),
                    Write::TakeOver(gone) => {
                        leases::take_over(conn, batch.node, *gone).map(|()| Written::Done)
                    }
                    Write::Leave => leases::leave(conn, batch.node).map(|()| Written::Done),
                    Write::ForgetNodes => leases::forget(conn, batch.node).map(|()| Written::Done),
                    Write::Prune(of) => prune::feed(conn, of),
                    Write::PruneEvents {
                        after,
                        limit,
                        before,
                    } => prune::events(conn, *after, *limit, *before),
                }
            }

            /// Takes positions as late as it can: their lock is held until the commit, and other nodes wait for it.
            fn store_items(
                conn: &mut $Conn,
                batch: Batch<'_>,
            ) -> Result<(Commit, Option<Places>), Error> {
                if batch.items.is_empty() {
                    return Ok((batch.finish(Position(0), &[]), None));
                }
                let number = i64::try_from(batch.items.len()).unwrap_or(i64::MAX);
                let last: i64 = diesel::update(feed_position::table.find(1))
                    .set(feed_position::last.eq(feed_position::last + number))
                    .returning(feed_position::last)
                    .get_result(conn)?;
                let before = Position(last.saturating_sub(number));
                let places = Places {
                    before,
                    last: Position(last),
                };
                let (mut rows, mut events, mut replies) = (Vec::new(), Vec::new(), Vec::new());
                for (position, item) in batch.placed(before) {
                    match item {
                        Item::Row(row) => rows.push(ActivityRow::of(row, position)),
                        Item::Event(event) => events.push(EventRow::of(event, position)),
                        Item::Reply(row, key) | Item::Owed(row, key) => {
                            replies.push((position, row, key));
                        }
                    }
                }
                insert_rows(conn, &rows)?;
                insert_events(conn, &events)?;
                let refused = insert_replies(conn, &replies)?;
                Ok((batch.finish(before, &refused), Some(places)))
            }

            type Placed<'a> = (Position, &'a FeedRow, &'a DelegationKey);

            /// Trouble with a reply never undoes an ending (rule 4): all of them in one savepoint, else each in its own.
            fn insert_replies(
                conn: &mut $Conn,
                replies: &[Placed<'_>],
            ) -> Result<Vec<(Position, Refusal)>, Error> {
                let mut refused = Vec::new();
                if replies.is_empty() || insert_guarded(conn, replies)?.is_none() {
                    return Ok(refused);
                }
                for reply in replies {
                    if let Some(why) = insert_guarded(conn, std::slice::from_ref(reply))? {
                        let (position, row, key) = *reply;
                        let refusal = if is_there(conn, row, key)? {
                            Refusal::AlreadyThere
                        } else {
                            delegation::set_reply(conn, key, "written", "owed")?;
                            Refusal::Owed(why)
                        };
                        refused.push((position, refusal));
                    }
                }
                Ok(refused)
            }

            /// Inserts in a savepoint; answers with the reason when the database refuses.
            fn insert_guarded(
                conn: &mut $Conn,
                replies: &[Placed<'_>],
            ) -> Result<Option<String>, Error> {
                let rows: Vec<ActivityRow<'_>> = replies
                    .iter()
                    .map(|(position, row, _)| ActivityRow::of(row, *position))
                    .collect();
                match conn.transaction(|conn| insert_rows(conn, &rows)) {
                    Ok(()) => Ok(None),
                    Err(Error::Unavailable(why)) => Err(Error::Unavailable(why)),
                    Err(error) => Ok(Some(error.to_string())),
                }
            }

            fn is_there(
                conn: &mut $Conn,
                row: &FeedRow,
                key: &DelegationKey,
            ) -> Result<bool, Error> {
                let replies = activity_logs::table
                    .filter(activity_logs::workspace_id.eq(Id(row.workspace.0)))
                    .filter(activity_logs::delegation_id.eq(crate::store::life::id_text(&key.id)))
                    .filter(IsReply);
                Ok(diesel::select(diesel::dsl::exists(replies)).get_result(conn)?)
            }
        }
    };
}
pub(in crate::store) use commit;
