//! One commit, once for both databases: apply the writes, take positions, store what is shown.

macro_rules! commit {
    ($Conn:ty) => {
        pub(in crate::store) mod commit {
            use std::time::Instant;

            use diesel::connection::{AnsiTransactionManager, TransactionManager};
            use diesel::prelude::*;

            use super::{
                TELLS, commit_whole, in_transaction, insert_events, insert_rows, leases, notify,
                prune, receivers,
            };
            use super::{write_delegations as delegation, write_workspaces as workspace};
            use crate::domain::{DelegationKey, FeedRow, Position};
            use crate::store::batch::{Batch, Endings, Item, Manner, Refusal, places};
            use crate::store::fragments::{CountEndings, IsReply};
            use crate::store::life::id_text;
            use crate::store::rows::{ActivityRow, EventRow};
            use crate::store::schema::{activity_logs, delegations};
            use crate::store::session::{Attempt, Session};
            use crate::store::telling;
            use crate::store::types::Id;
            use crate::store::{Commit, Error, Span, Write, Written};

            /// How often a batch is tried again that another node's batch was in the way of.
            const DEADLOCKS: usize = 3;

            pub(in crate::store) fn commit(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                written: Option<&dyn Fn()>,
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
                written: Option<&dyn Fn()>,
            ) -> Result<Commit, Error> {
                let refused = |result: &Result<_, _>| {
                    matches!(result, Err(Error::Refused(_) | Error::Unreadable { .. }))
                };
                if let Some(result) = commit_whole(conn, session, writes, written) {
                    if !refused(&result) {
                        return result;
                    }
                    metrics::counter!("baton_batches_refused_total").increment(1);
                }
                let result = transact(conn, session, writes, Manner::Guarded, written);
                if refused(&result) {
                    one_by_one(conn, session, writes, written)
                } else {
                    result
                }
            }

            /// One of the writes is refused: each gets a transaction of its own, so that the others are committed.
            fn one_by_one(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                written: Option<&dyn Fn()>,
            ) -> Result<Commit, Error> {
                let mut whole = Commit::default();
                for write in writes {
                    let one = std::slice::from_ref(write);
                    match transact(conn, session, one, Manner::Alone, written) {
                        Ok(commit) => {
                            whole.span = Span::joined(whole.span, commit.span);
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

            pub(in crate::store) fn transact(
                conn: &mut $Conn,
                session: &mut Session,
                writes: &[Write],
                manner: Manner,
                written: Option<&dyn Fn()>,
            ) -> Result<Commit, Error> {
                let began = Instant::now();
                let attempt = in_transaction(conn, |conn| {
                    let attempt = attempt(conn, session, writes, manner)?;
                    if let Some(written) = written {
                        written();
                    }
                    Ok(attempt)
                })?;
                Ok(session.committed(began, attempt))
            }

            /// Takes positions first. Their lock, held until the commit, makes the order of positions the order of
            /// commits.
            fn attempt(
                conn: &mut $Conn,
                session: &Session,
                writes: &[Write],
                manner: Manner,
            ) -> Result<Attempt, Error> {
                let renewal = session.renewal(writes.is_empty());
                // A transaction without a write would succeed even on a full disk.
                let number = (!writes.is_empty()).then(|| places(writes));
                let span = leases::prove(conn, session.lease.node(), renewal, number)?;
                session.progressed();
                let before = span.map_or(Position(0), |span| span.before);
                let mut batch = Batch::new(writes, manner, session.lease.node(), before);
                apply_all(conn, session, writes.iter().enumerate(), &mut batch)?;
                let commit = store_items(conn, batch, writes, session.number)?;
                session.progressed();
                Ok(Attempt {
                    commit,
                    renewed: renewal.is_some(),
                    span,
                })
            }

            /// Applies them one after the other.
            pub(in crate::store) fn apply_all<'a>(
                conn: &mut $Conn,
                session: &Session,
                writes: impl Iterator<Item = (usize, &'a Write)>,
                batch: &mut Batch<'a>,
            ) -> Result<(), Error> {
                for (number, write) in writes {
                    batch.current = number;
                    let written = apply(conn, write, batch)?;
                    batch.note(written);
                    session.progressed();
                }
                Ok(())
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
                        batch.show(Item::Event(event));
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
                        batch.show_events(events);
                        Ok(Written::Done)
                    }
                    Write::Register(registration) => workspace::register(conn, registration, batch),
                    Write::MintToken { token, limit } => workspace::mint_token(conn, token, *limit),
                    Write::RevokeToken {
                        workspace,
                        token,
                        at,
                    } => workspace::revoke_token(conn, *workspace, *token, *at),
                    Write::TokensUsed(uses) => {
                        workspace::tokens_used(conn, uses).map(|()| Written::Done)
                    }
                    Write::TakeOver(gone) => {
                        leases::take_over(conn, batch.node, *gone).map(|()| Written::Done)
                    }
                    Write::Leave => leases::leave(conn, batch.node).map(|()| Written::Done),
                    Write::ForgetNodes => leases::forget(conn, batch.node).map(|()| Written::Done),
                    Write::Receiver(change) => receivers::change(conn, change, batch.node),
                    Write::Prune(of) => prune::feed(conn, of),
                    Write::PruneEvents {
                        after,
                        limit,
                        before,
                    } => prune::events(conn, *after, *limit, *before),
                }
            }

            fn store_items(
                conn: &mut $Conn,
                batch: Batch<'_>,
                writes: &[Write],
                session: u64,
            ) -> Result<Commit, Error> {
                let payload = TELLS
                    .then(|| telling::payload(&batch, writes, session))
                    .flatten();
                let whole = batch.manner == Manner::Whole;
                let (mut rows, mut events, mut replies) = (Vec::new(), Vec::new(), Vec::new());
                for (_, position, item) in batch.placed() {
                    match item {
                        Item::Row(row, of) => rows.push(ActivityRow::of(row, of, position)),
                        Item::Event(event) => events.push(EventRow::of(event, position)),
                        Item::Reply(row, _, of) | Item::Owed(row, _, of) if whole => {
                            rows.push(ActivityRow::of(row, of, position));
                        }
                        Item::Reply(row, key, of) | Item::Owed(row, key, of) => {
                            replies.push((position, row, key, of));
                        }
                    }
                }
                insert_rows(conn, &rows)?;
                insert_events(conn, &events)?;
                count_endings(conn, batch.endings)?;
                let refused = insert_replies(conn, &replies)?;
                if let Some(payload) = payload {
                    notify(conn, &payload)?;
                }
                Ok(batch.finish(&refused))
            }

            fn count_endings(conn: &mut $Conn, endings: Endings) -> Result<(), Error> {
                if endings != Endings::default() {
                    CountEndings(endings).execute(conn)?;
                }
                Ok(())
            }

            /// A reply, the place it gets, and the number of its delegation.
            type Placed<'a> = (Position, &'a FeedRow, &'a DelegationKey, Option<Position>);

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
                        let (position, _, key, _) = *reply;
                        let refusal = if is_there(conn, key)? {
                            Refusal::AlreadyThere
                        } else {
                            delegation::owe(conn, key)?;
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
                    .map(|(position, row, _, of)| ActivityRow::of(row, *of, *position))
                    .collect();
                match conn.transaction(|conn| insert_rows(conn, &rows)) {
                    Ok(()) => Ok(None),
                    Err(Error::Unavailable(why)) => Err(Error::Unavailable(why)),
                    Err(error) => Ok(Some(error.to_string())),
                }
            }

            fn is_there(conn: &mut $Conn, key: &DelegationKey) -> Result<bool, Error> {
                let number = delegations::table
                    .find((Id(key.caller.0), id_text(&key.id)))
                    .select(delegations::number.nullable());
                let replies = activity_logs::table
                    .filter(activity_logs::delegation_number.eq_any(number))
                    .filter(IsReply);
                Ok(diesel::select(diesel::dsl::exists(replies)).get_result(conn)?)
            }
        }
    };
}
pub(in crate::store) use commit;
