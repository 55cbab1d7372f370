//! Writes of workspaces, tokens, inboxes and of rows and events of their own, once for both databases.

macro_rules! write_workspaces {
    ($Conn:ty) => {
        pub(in crate::store) mod write_workspaces {
            use diesel::prelude::*;
            use diesel::query_dsl::methods;
            use diesel::upsert::excluded;

            use crate::domain::{
                DeliveryMode, FeedEvent, FeedRow, Position, Timestamp, TokenId, Workspace,
                WorkspaceId, WorkspaceStatus, sanitize,
            };
            use crate::store::batch::{Batch, Item};
            use crate::store::fragments::{NewestPlace, Now, TokenUses};
            use crate::store::rows::{
                PatchRow, TokenRow, WorkspaceRow, is_same_origin, registered, sealed,
            };
            use crate::store::schema::{
                activity_logs, inbox_delivery_state, push_receivers, structure_events,
                workspace_auth_tokens, workspaces,
            };
            use crate::store::types::{Id, J, Ts};
            use crate::store::{Error, NewToken, Registration, TokenUse, WorkspacePatch, Written};

            const REMOVED: &str = WorkspaceStatus::Removed.as_str();
            /// SQLite takes 32,766 values in one statement; a use has two.
            const ROWS_AT_ONCE: usize = 1000;

            fn ids_of(workspaces: &[WorkspaceId]) -> Vec<Id> {
                workspaces.iter().map(|id| Id(id.0)).collect()
            }

            pub(in crate::store) fn log<'a>(
                conn: &mut $Conn,
                row: &'a FeedRow,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                let found: Option<Id> = workspaces::table
                    .find(Id(row.workspace.0))
                    .select(workspaces::id)
                    .first(conn)
                    .optional()?;
                if found.is_none() {
                    return Ok(Written::Missing);
                }
                debug_assert!(row.id.is_some(), "its id tells whether it is stored");
                if batch.is_careful() {
                    let stored: Option<i64> = activity_logs::table
                        .filter(activity_logs::id.eq(row.id.map(|id| Id(id.0))))
                        .select(activity_logs::seq)
                        .first(conn)
                        .optional()?;
                    if let Some(seq) = stored {
                        return Ok(Written::Logged(Position(seq)));
                    }
                }
                batch.show(Item::Row(row, None));
                // Its place is filled in when positions are taken.
                Ok(Written::Logged(Position(0)))
            }

            pub(in crate::store) fn acknowledge(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                upto: Position,
            ) -> Result<Written, Error> {
                use inbox_delivery_state::{last_acked_seq, updated_at, workspace_id};
                let workspace = Id(workspace.0);
                let newest: Option<i64> = NewestPlace(workspace).get_result(conn)?;
                let acked = upto.0.min(newest.unwrap_or(0));
                if acked > 0 {
                    let upsert = diesel::insert_into(inbox_delivery_state::table)
                        .values((
                            workspace_id.eq(workspace),
                            last_acked_seq.eq(acked),
                            updated_at.eq(Now),
                        ))
                        .on_conflict(workspace_id)
                        .do_update()
                        .set((
                            last_acked_seq.eq(excluded(last_acked_seq)),
                            updated_at.eq(Now),
                        ));
                    methods::FilterDsl::filter(upsert, last_acked_seq.lt(excluded(last_acked_seq)))
                        .execute(conn)?;
                }
                let stored: Option<i64> = inbox_delivery_state::table
                    .find(workspace)
                    .select(last_acked_seq)
                    .first(conn)
                    .optional()?;
                Ok(Written::Acknowledged(Position(stored.unwrap_or(0))))
            }

            pub(in crate::store) fn create<'a>(
                conn: &mut $Conn,
                workspace: &Workspace,
                token: Option<&NewToken>,
                events: &'a [FeedEvent],
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                let created = Ts::from(workspace.created_at);
                let repeated = batch.is_careful()
                    && workspaces::table
                        .find(Id(workspace.id.0))
                        .select(workspaces::created_at)
                        .first::<Ts>(conn)
                        .optional()?
                        == Some(created);
                if repeated {
                    return Ok(Written::Done);
                }
                diesel::insert_into(workspaces::table)
                    .values(WorkspaceRow::from(workspace))
                    .execute(conn)?;
                if let Some(token) = token {
                    insert_token(conn, token)?;
                }
                batch.show_events(events);
                Ok(Written::Done)
            }

            pub(in crate::store) fn patch<'a>(
                conn: &mut $Conn,
                id: WorkspaceId,
                patch: &WorkspacePatch,
                events: &'a [FeedEvent],
                at: Timestamp,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                let live = workspaces::table
                    .find(Id(id.0))
                    .filter(workspaces::status.ne(REMOVED));
                let changed = diesel::update(live)
                    .set(PatchRow::of(patch, at))
                    .execute(conn)?;
                if changed == 0 {
                    return Ok(Written::Missing);
                }
                batch.show_events(events);
                Ok(Written::Done)
            }

            pub(in crate::store) fn remove(
                conn: &mut $Conn,
                removed: &[WorkspaceId],
                purge: bool,
                at: Timestamp,
            ) -> Result<(), Error> {
                use workspace_auth_tokens as tokens;
                let ids = ids_of(removed);
                let revoked_at = Some(Ts::from(at));
                let told = push_receivers::workspace_id.eq_any(&ids);
                diesel::delete(push_receivers::table.filter(told)).execute(conn)?;
                diesel::update(workspaces::table)
                    .filter(workspaces::id.eq_any(&ids))
                    .filter(workspaces::status.ne(REMOVED))
                    .set((
                        workspaces::status.eq(REMOVED),
                        workspaces::credentials.eq(None::<String>),
                        workspaces::updated_at.eq(Ts::from(at)),
                    ))
                    .execute(conn)?;
                diesel::update(tokens::table)
                    .filter(tokens::workspace_id.eq_any(&ids))
                    .filter(tokens::revoked_at.is_null())
                    .set(tokens::revoked_at.eq(revoked_at))
                    .execute(conn)?;
                if !purge {
                    return Ok(());
                }
                let feed = activity_logs::table.filter(activity_logs::workspace_id.eq_any(&ids));
                diesel::delete(feed).execute(conn)?;
                let events =
                    structure_events::table.filter(structure_events::workspace_id.eq_any(&ids));
                diesel::delete(events).execute(conn)?;
                let inboxes = inbox_delivery_state::table
                    .filter(inbox_delivery_state::workspace_id.eq_any(&ids));
                diesel::delete(inboxes).execute(conn)?;
                // Their tokens go with them (ON DELETE CASCADE).
                diesel::delete(workspaces::table.filter(workspaces::id.eq_any(&ids)))
                    .execute(conn)?;
                Ok(())
            }

            pub(in crate::store) fn register<'a>(
                conn: &mut $Conn,
                registration: &'a Registration,
                batch: &mut Batch<'a>,
            ) -> Result<Written, Error> {
                let id = Id(registration.id.0);
                let at = Ts::from(registration.at);
                let mode: DeliveryMode = registration.delivery_mode;
                let live = workspaces::table
                    .find(id)
                    .filter(workspaces::status.ne(REMOVED));
                let credentials = match &registration.credentials {
                    // Whoever listens elsewhere is not shown them unasked.
                    None if moves(conn, registration)? => Some(None),
                    said => sealed(said.as_ref()),
                };
                let updated = diesel::update(live)
                    .set((
                        workspaces::url.eq(registration.url.as_deref().map(sanitize)),
                        workspaces::agent_card.eq(Some(J::from(&registration.agent_card))),
                        workspaces::delivery_mode.eq(mode.as_str()),
                        workspaces::status.eq(WorkspaceStatus::Online.as_str()),
                        workspaces::last_heartbeat_at.eq(Some(at)),
                        workspaces::updated_at.eq(at),
                    ))
                    .execute(conn)?;
                if let Some(credentials) = credentials {
                    diesel::update(live)
                        .set(workspaces::credentials.eq(credentials))
                        .execute(conn)?;
                }
                if updated == 0 {
                    let inserted = diesel::insert_into(workspaces::table)
                        .values(WorkspaceRow::from(&registered(registration)))
                        .on_conflict_do_nothing()
                        .execute(conn)?;
                    if inserted == 0 {
                        return Ok(Written::Missing);
                    }
                }
                let token = &registration.token;
                let token_stored = if live_tokens(conn, registration.id)? == 0 {
                    insert_token(conn, token)?;
                    true
                } else {
                    is_stored(conn, token)?
                };
                batch.show_events(&registration.events);
                Ok(Written::Registered { token_stored })
            }

            /// Whether its agent listened elsewhere before.
            fn moves(conn: &mut $Conn, registration: &Registration) -> Result<bool, Error> {
                let before: Option<Option<String>> = workspaces::table
                    .find(Id(registration.id.0))
                    .select(workspaces::url)
                    .first(conn)
                    .optional()?;
                let now = registration.url.as_deref().unwrap_or_default();
                Ok(before
                    .flatten()
                    .is_some_and(|before| !is_same_origin(&before, now)))
            }

            pub(in crate::store) fn tokens_used(
                conn: &mut $Conn,
                uses: &[TokenUse],
            ) -> Result<(), Error> {
                for some in uses.chunks(ROWS_AT_ONCE) {
                    TokenUses::of(some).execute(conn)?;
                }
                Ok(())
            }

            fn insert_token(conn: &mut $Conn, token: &NewToken) -> Result<(), Error> {
                diesel::insert_into(workspace_auth_tokens::table)
                    .values(TokenRow::from(token))
                    .execute(conn)?;
                Ok(())
            }

            fn live_tokens(conn: &mut $Conn, workspace: WorkspaceId) -> Result<i64, Error> {
                Ok(workspace_auth_tokens::table
                    .filter(workspace_auth_tokens::workspace_id.eq(Id(workspace.0)))
                    .filter(workspace_auth_tokens::revoked_at.is_null())
                    .count()
                    .get_result(conn)?)
            }

            /// Whether an earlier try of the same write stored this token.
            fn is_stored(conn: &mut $Conn, token: &NewToken) -> Result<bool, Error> {
                let found: Option<Id> = workspace_auth_tokens::table
                    .find(Id(token.id.0))
                    .select(workspace_auth_tokens::id)
                    .first(conn)
                    .optional()?;
                Ok(found.is_some())
            }

            pub(in crate::store) fn mint_token(
                conn: &mut $Conn,
                token: &NewToken,
                limit: i64,
            ) -> Result<Written, Error> {
                if is_stored(conn, token)? {
                    return Ok(Written::Done);
                }
                // The no-op update locks the workspace's row, so that two nodes cannot both mint the last one.
                let live = workspaces::table
                    .find(Id(token.workspace.0))
                    .filter(workspaces::status.ne(REMOVED));
                let locked = diesel::update(live)
                    .set(workspaces::status.eq(workspaces::status))
                    .execute(conn)?;
                if locked == 0 {
                    return Ok(Written::Missing);
                }
                if live_tokens(conn, token.workspace)? >= limit {
                    return Ok(Written::TooMany);
                }
                insert_token(conn, token)?;
                Ok(Written::Done)
            }

            pub(in crate::store) fn revoke_token(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                token: TokenId,
                at: Timestamp,
            ) -> Result<Written, Error> {
                use workspace_auth_tokens::{revoked_at, workspace_id};
                let at = Some(Ts::from(at));
                let own = workspace_auth_tokens::table
                    .find(Id(token.0))
                    .filter(workspace_id.eq(Id(workspace.0)));
                // Revoked at this very instant means: by an earlier try of the same write.
                let changed =
                    diesel::update(own.filter(revoked_at.is_null().or(revoked_at.eq(at))))
                        .set(revoked_at.eq(at))
                        .execute(conn)?;
                Ok(if changed == 0 {
                    Written::Missing
                } else {
                    Written::Done
                })
            }
        }
    };
}
pub(in crate::store) use write_workspaces;
