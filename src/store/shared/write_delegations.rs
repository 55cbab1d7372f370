//! Writes of delegations, once for both databases.

macro_rules! write_delegations {
    ($Conn:ty) => {
        pub(in crate::store) mod write_delegations {
            use diesel::prelude::*;

            use crate::domain::{
                Accept, Advance, DelegationId, DelegationKey, FeedRow, Idempotency, Position,
                Status,
            };
            use crate::store::batch::{Batch, Item};
            use crate::store::fragments::{
                GaveKeyBack, HistoryWith, HoldsKey, LivesOr, Prepared, Settle, kept_bytes,
                kept_instant, kept_word, key_that_was,
            };
            use crate::store::history::more_history;
            use crate::store::life::{
                LifeColumns, NewRow, heard_at, id_text, stored_incarnation, stored_key, word,
            };
            use crate::store::schema::{delegations, delegations_live, delegations_owed};
            use crate::store::standing::EndColumns;
            use crate::store::types::{Id, Ts};
            use crate::store::{Acceptance, Error, Written};

            /// The text of what begins a delegation.
            #[derive(Debug)]
            struct Begins;
            /// The text of the change of a delegation that goes on.
            #[derive(Debug)]
            struct Goes;
            /// The text of the change that ends a delegation, or adds to an ended one.
            #[derive(Debug)]
            struct Ends;
            /// The same for one that failed, which gives its key back.
            #[derive(Debug)]
            struct Fails;

            type Holder = (String, String, Option<Vec<u8>>, Ts, Option<String>);

            /// The latest delegation that the caller's key was used for: the one that holds it, else the last that failed.
            fn holder(
                conn: &mut $Conn,
                terms_key: &DelegationKey,
                key: &Idempotency,
            ) -> Result<Option<Holder>, Error> {
                use delegations::{
                    caller_id, created_at, delegation_id, fingerprint, given_back_key,
                    idempotency_key, number, retry_of, status,
                };
                let columns = (delegation_id, status, fingerprint, created_at, retry_of);
                let key = stored_key(&key.key);
                let of_caller = delegations::table
                    .filter(caller_id.eq(Id(terms_key.caller.0)))
                    .select(columns);
                let held = of_caller.filter(HoldsKey.and(idempotency_key.eq(&*key)));
                let held = held.first(conn).optional()?;
                if held.is_some() {
                    return Ok(held);
                }
                Ok(of_caller
                    .filter(GaveKeyBack.and(given_back_key.eq(&*key)))
                    .order(number.desc())
                    .first(conn)
                    .optional()?)
            }

            enum Verdict {
                /// The key is free, or comes from this failed delegation.
                Begin(Option<String>),
                Answer(Acceptance),
            }

            fn judge(conn: &mut $Conn, accept: &Accept) -> Result<Verdict, Error> {
                let delegation = &accept.delegation;
                let Some(key) = &delegation.idempotency else {
                    return Ok(Verdict::Begin(None));
                };
                let Some((id, status, fingerprint, created_at, retry_of)) =
                    holder(conn, &delegation.terms.key, key)?
                else {
                    return Ok(Verdict::Begin(None));
                };
                let repeated = *id_text(&delegation.terms.key.id) == id
                    && created_at == Ts::from(delegation.terms.created_at);
                if repeated {
                    let retry_of = retry_of.as_deref().map(DelegationId::from_text);
                    return Ok(Verdict::Answer(Acceptance::Created { retry_of }));
                }
                if fingerprint.as_deref() != Some(key.fingerprint.as_slice()) {
                    return Ok(Verdict::Answer(Acceptance::KeyMismatch));
                }
                let status = word("status", &status, Status::parse)?;
                if status == Status::Failed {
                    return Ok(Verdict::Begin(Some(id)));
                }
                let id = DelegationId::from_text(&id);
                Ok(Verdict::Answer(Acceptance::Replayed { id, status }))
            }

            /// The delegation of this very id, if an earlier try of the same acceptance stored it.
            fn own_repeat(conn: &mut $Conn, accept: &Accept) -> Result<Option<Acceptance>, Error> {
                use delegations as d;
                let terms = &accept.delegation.terms;
                let stored: Option<(Option<Id>, Ts, Ts, Option<String>)> = delegations::table
                    .find((Id(terms.key.caller.0), id_text(&terms.key.id)))
                    .select((d::callee_id, d::created_at, d::deadline, d::retry_of))
                    .first(conn)
                    .optional()?;
                Ok(stored.map(|(callee, created_at, deadline, retry_of)| {
                    let same = callee == terms.target.map(|target| Id(target.0))
                        && created_at == Ts::from(terms.created_at)
                        && deadline == Ts::from(terms.deadline);
                    if same {
                        let retry_of = retry_of.as_deref().map(DelegationId::from_text);
                        Acceptance::Created { retry_of }
                    } else {
                        Acceptance::IdTaken
                    }
                }))
            }

            pub(in crate::store) fn accept<'a>(
                conn: &mut $Conn,
                accept: &'a Accept,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                let life = accept.life();
                let number = batch.number_of(batch.current);
                let asked_for = accept.delegation.retry_of.as_ref();
                // A key that is taken by another node, and given back at once, may cost a second look.
                for _ in 0..3 {
                    let retry_of = match judge(conn, accept)? {
                        Verdict::Answer(answer) => return Ok(Written::Accepted(answer)),
                        Verdict::Begin(failed) => {
                            asked_for.map(|id| id_text(id).into_owned()).or(failed)
                        }
                    };
                    let row = NewRow::of(
                        number,
                        accept,
                        &life,
                        retry_of.as_deref().map(Into::into),
                        batch.node,
                    );
                    let insert = diesel::insert_into(delegations::table)
                        .values(row)
                        .on_conflict_do_nothing();
                    let inserted = Prepared::new(Begins, insert).execute(conn)?;
                    if inserted == 1 {
                        list(conn, accept, number, batch)?;
                        batch.began(accept, number);
                        let retry_of = retry_of.as_deref().map(DelegationId::from_text);
                        return Ok(Written::Accepted(Acceptance::Created { retry_of }));
                    }
                    if let Some(answer) = own_repeat(conn, accept)? {
                        return Ok(Written::Accepted(answer));
                    }
                }
                Err(Error::Unavailable(
                    "the idempotency key changes hands too quickly".to_owned(),
                ))
            }

            /// Lets one that was accepted be found as live, or by how it ended.
            fn list(
                conn: &mut $Conn,
                accept: &Accept,
                number: Position,
                batch: &Batch<'_>,
            ) -> Result<(), Error> {
                use delegations_live as l;
                if accept.life().status().is_terminal() {
                    Settle(number.0).execute(conn)?;
                    return Ok(());
                }
                let terms = &accept.delegation.terms;
                diesel::insert_into(l::table)
                    .values((
                        l::number.eq(number.0),
                        l::lease_owner.eq(Id(batch.node.0)),
                        l::caller_id.eq(Id(terms.key.caller.0)),
                        l::callee_id.eq(terms.target.map(|target| Id(target.0))),
                    ))
                    .execute(conn)?;
                Ok(())
            }

            pub(in crate::store) fn advance<'a>(
                conn: &mut $Conn,
                advance: &'a Advance,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                use delegations as d;
                let incarnation = stored_incarnation(advance.incarnation);
                let place = (Id(advance.key.caller.0), id_text(&advance.key.id));
                let status = advance.life.status();
                let ends = status.is_terminal();
                // What has ended never lives again.
                let target = d::caller_id
                    .eq(place.0)
                    .and(d::delegation_id.eq(place.1.clone()))
                    .and(d::revision.eq(advance.revision.0.saturating_sub(1)))
                    .and(d::incarnation.le(incarnation))
                    .and(LivesOr(ends));
                let change = (
                    LifeColumns::of(&advance.life),
                    d::last_heartbeat.eq(kept_instant(heard_at(&advance.life), d::last_heartbeat)),
                    d::result_raw.eq(kept_bytes(advance.raw_reply.as_deref(), d::result_raw)),
                    d::history.eq(HistoryWith(more_history(advance))),
                    d::revision.eq(advance.revision.0),
                    d::incarnation.eq(incarnation),
                    d::updated_at.eq(Ts::from(advance.at)),
                    d::reply.eq(kept_word(
                        advance.feed.reply.is_some().then_some("written"),
                        d::reply,
                    )),
                );
                let number: Option<i64> = if status == Status::Failed {
                    let end = EndColumns::of(&advance.life);
                    let back = (
                        d::given_back_key.eq(key_that_was(d::idempotency_key, d::given_back_key)),
                        d::idempotency_key.eq(None::<&str>),
                    );
                    let update = diesel::update(d::table.filter(target)).set((change, end, back));
                    Prepared::new(Fails, update.returning(d::number)).get_result(conn)
                } else if ends {
                    let end = EndColumns::of(&advance.life);
                    let update = diesel::update(d::table.filter(target)).set((change, end));
                    Prepared::new(Ends, update.returning(d::number)).get_result(conn)
                } else {
                    let update = diesel::update(d::table.filter(target)).set(change);
                    Prepared::new(Goes, update.returning(d::number)).get_result(conn)
                }
                .optional()?;
                if let Some(number) = number {
                    if ends {
                        diesel::delete(delegations_live::table.find(number)).execute(conn)?;
                        Settle(number).execute(conn)?;
                    }
                    batch.advanced(advance, Some(Position(number)));
                    return Ok(Written::Advanced);
                }
                // Not the numbers alone: an actor that died in mid-commit and the one rebuilt in its place, or in another
                // process, may both count from what was stored before.
                let repeated = d::table
                    .find(place)
                    .filter(d::revision.eq(advance.revision.0))
                    .filter(d::incarnation.eq(incarnation))
                    .filter(d::status.eq(advance.life.status().as_str()))
                    .filter(d::updated_at.eq(Ts::from(advance.at)));
                let repeated = diesel::select(diesel::dsl::exists(repeated)).get_result(conn)?;
                Ok(if repeated {
                    Written::Advanced
                } else {
                    Written::Stale
                })
            }

            pub(in crate::store) fn deliver_owed<'a>(
                conn: &mut $Conn,
                key: &'a DelegationKey,
                reply: &'a FeedRow,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                if let Some(number) = set_reply(conn, key, "owed", "written")? {
                    diesel::delete(delegations_owed::table.find(number.0)).execute(conn)?;
                    batch.show(Item::Owed(reply, key, Some(number)));
                }
                Ok(Written::Done)
            }

            /// A reply that was to be written with its ending is owed.
            pub(in crate::store) fn owe(
                conn: &mut $Conn,
                key: &DelegationKey,
            ) -> Result<(), Error> {
                if let Some(number) = set_reply(conn, key, "written", "owed")? {
                    diesel::insert_into(delegations_owed::table)
                        .values(delegations_owed::number.eq(number.0))
                        .execute(conn)?;
                }
                Ok(())
            }

            /// Answers with the number of the delegation, if its reply stood so.
            fn set_reply(
                conn: &mut $Conn,
                key: &DelegationKey,
                from: &str,
                to: &str,
            ) -> Result<Option<Position>, Error> {
                let of_key = delegations::table.find((Id(key.caller.0), id_text(&key.id)));
                let number: Option<i64> =
                    diesel::update(of_key.filter(delegations::reply.eq(from)))
                        .set(delegations::reply.eq(to))
                        .returning(delegations::number)
                        .get_result(conn)
                        .optional()?;
                Ok(number.map(Position))
            }
        }
    };
}
pub(in crate::store) use write_delegations;
