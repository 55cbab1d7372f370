//! Reads of workspaces, tokens and inboxes, once for both databases.

macro_rules! read_workspaces {
    ($Conn:ty) => {
        pub(in crate::store) mod read_workspaces {
            use std::collections::HashSet;

            use diesel::prelude::*;

            use crate::domain::{Position, Workspace, WorkspaceId};
            use crate::store::fragments::Ancestry;
            use crate::store::rows::{TokenTuple, WorkspaceRow, read_token};
            use crate::store::schema::{inbox_delivery_state, workspace_auth_tokens, workspaces};
            use crate::store::types::Id;
            use crate::store::{Error, TokenView};

            const REMOVED: &str = "removed";

            pub(in crate::store) fn token_owner(
                conn: &mut $Conn,
                hash: &[u8; 32],
            ) -> Result<Option<WorkspaceId>, Error> {
                let owner: Option<Id> = workspace_auth_tokens::table
                    .inner_join(
                        workspaces::table
                            .on(workspaces::id.eq(workspace_auth_tokens::workspace_id)),
                    )
                    .filter(workspace_auth_tokens::token_hash.eq(hash.as_slice()))
                    .filter(workspace_auth_tokens::revoked_at.is_null())
                    .filter(workspaces::status.ne(REMOVED))
                    .select(workspaces::id)
                    .first(conn)
                    .optional()?;
                Ok(owner.map(|id| WorkspaceId(id.0)))
            }

            pub(in crate::store) fn workspace(
                conn: &mut $Conn,
                id: WorkspaceId,
            ) -> Result<Option<Workspace>, Error> {
                workspaces::table
                    .find(Id(id.0))
                    .select(WorkspaceRow::as_select())
                    .first(conn)
                    .optional()?
                    .map(WorkspaceRow::read)
                    .transpose()
            }

            fn read_all(rows: Vec<WorkspaceRow>) -> Result<Vec<Workspace>, Error> {
                rows.into_iter().map(WorkspaceRow::read).collect()
            }

            pub(in crate::store) fn workspaces(conn: &mut $Conn) -> Result<Vec<Workspace>, Error> {
                let rows = workspaces::table
                    .filter(workspaces::status.ne(REMOVED))
                    .order((workspaces::created_at, workspaces::id))
                    .select(WorkspaceRow::as_select())
                    .load(conn)?;
                read_all(rows)
            }

            pub(in crate::store) fn ancestry(
                conn: &mut $Conn,
                id: WorkspaceId,
            ) -> Result<Vec<WorkspaceId>, Error> {
                let line: Vec<Id> = Ancestry(Id(id.0)).load(conn)?;
                Ok(line.into_iter().map(|id| WorkspaceId(id.0)).collect())
            }

            fn children(conn: &mut $Conn, parents: Vec<Id>) -> Result<Vec<Workspace>, Error> {
                let rows = workspaces::table
                    .filter(workspaces::parent_id.eq_any(parents))
                    .filter(workspaces::status.ne(REMOVED))
                    .order((workspaces::created_at, workspaces::id))
                    .select(WorkspaceRow::as_select())
                    .load(conn)?;
                read_all(rows)
            }

            pub(in crate::store) fn descendants(
                conn: &mut $Conn,
                id: WorkspaceId,
            ) -> Result<Vec<Workspace>, Error> {
                let mut seen = HashSet::from([id]);
                let mut found = Vec::new();
                let mut level = vec![Id(id.0)];
                while !level.is_empty() {
                    let below = children(conn, level)?;
                    // Parents that point at each other must not keep this going for ever.
                    let fresh: Vec<Workspace> = below
                        .into_iter()
                        .filter(|child| seen.insert(child.id))
                        .collect();
                    level = fresh.iter().map(|child| Id(child.id.0)).collect();
                    found.extend(fresh);
                }
                Ok(found)
            }

            pub(in crate::store) fn peers(
                conn: &mut $Conn,
                id: WorkspaceId,
            ) -> Result<Vec<Workspace>, Error> {
                let Some(own) = workspace(conn, id)? else {
                    return Ok(Vec::new());
                };
                let mut found = Vec::new();
                if let Some(parent) = own.parent {
                    found = children(conn, vec![Id(parent.0)])?;
                    found.retain(|sibling| sibling.id != id);
                }
                found.extend(children(conn, vec![Id(id.0)])?);
                if let Some(parent) = own.parent {
                    let parent = workspace(conn, parent)?;
                    found.extend(
                        parent.filter(|parent| {
                            parent.status != crate::domain::WorkspaceStatus::Removed
                        }),
                    );
                }
                Ok(found)
            }

            pub(in crate::store) fn tokens(
                conn: &mut $Conn,
                workspace: WorkspaceId,
                limit: i64,
                offset: i64,
            ) -> Result<Vec<TokenView>, Error> {
                use workspace_auth_tokens::{
                    created_at, id, last_used_at, prefix, revoked_at, workspace_id,
                };
                let rows: Vec<TokenTuple> = workspace_auth_tokens::table
                    .filter(workspace_id.eq(Id(workspace.0)))
                    .filter(revoked_at.is_null())
                    .order((created_at.desc(), id.desc()))
                    .select((id, prefix, created_at, last_used_at))
                    .limit(limit)
                    .offset(offset)
                    .load(conn)?;
                Ok(rows.into_iter().map(read_token).collect())
            }

            pub(in crate::store) fn acknowledged(
                conn: &mut $Conn,
                workspace: WorkspaceId,
            ) -> Result<Position, Error> {
                let acked: Option<i64> = inbox_delivery_state::table
                    .find(Id(workspace.0))
                    .select(inbox_delivery_state::last_acked_seq)
                    .first(conn)
                    .optional()?;
                Ok(Position(acked.unwrap_or(0)))
            }
        }
    };
}
pub(in crate::store) use read_workspaces;
