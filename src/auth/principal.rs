//! From a bearer to a principal. What cannot be decided is an error, never a yes (lesson A04).

use super::TokenHash;
use crate::clock;
use crate::domain::WorkspaceId;
use crate::store::{self, Store};

/// Who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Principal {
    /// The holder of the admin token: everything.
    Admin,
    /// The holder of one of this workspace's tokens: this workspace, and what it may see of others.
    Workspace(WorkspaceId),
}

impl Principal {
    /// Whether it may act for this workspace.
    #[must_use]
    pub fn may_act_for(self, workspace: WorkspaceId) -> bool {
        match self {
            Self::Admin => true,
            Self::Workspace(own) => own == workspace,
        }
    }
}

/// Why nobody speaks.
#[derive(thiserror::Error, Debug)]
pub enum Denied {
    /// There is no bearer.
    #[error("no bearer")]
    Missing,
    /// The bearer is nobody's, or was revoked.
    #[error("unknown bearer")]
    Invalid,
    /// It cannot be told now.
    #[error(transparent)]
    Undecided(#[from] store::Error),
}

/// The secret in an `Authorization` header: exactly `Bearer `, case and all, and the rest trimmed (contract §2.1).
#[must_use]
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let secret = authorization.strip_prefix(b"Bearer ")?.trim_ascii();
    (!secret.is_empty()).then_some(secret)
}

/// Who holds this secret.
///
/// # Errors
/// See [`Denied`].
pub async fn resolve(
    secret: Option<&[u8]>,
    admin: &TokenHash,
    store: &Store,
) -> Result<Principal, Denied> {
    let hash = TokenHash::of(secret.ok_or(Denied::Missing)?);
    if hash.matches(admin) {
        return Ok(Principal::Admin);
    }
    store
        .token_owner(hash.0, clock::now())
        .await?
        .map(Principal::Workspace)
        .ok_or(Denied::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_scheme_is_a_bearer() {
        assert_eq!(bearer(b"Bearer secret"), Some(&b"secret"[..]));
        assert_eq!(bearer(b"Bearer   secret \t"), Some(&b"secret"[..]));
        for header in [
            &b"bearer secret"[..],
            b"BEARER secret",
            b"Bearer",
            b"Bearer ",
            b"Bearersecret",
            b"Basic secret",
            b" Bearer secret",
            b"",
        ] {
            assert_eq!(bearer(header), None);
        }
    }

    #[test]
    fn a_workspace_acts_for_itself_alone() {
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        assert!(Principal::Workspace(one).may_act_for(one));
        assert!(!Principal::Workspace(one).may_act_for(other));
        assert!(Principal::Admin.may_act_for(other));
    }
}
