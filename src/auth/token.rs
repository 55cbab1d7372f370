//! Bearer secrets: 32 random bytes, shown once, stored as SHA-256 (contract §2.1).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock;
use crate::domain::{TokenId, WorkspaceId};
use crate::store::NewToken;

/// How many characters of a secret are kept to recognise it by.
const PREFIX: usize = 8;

/// A secret before it is forgotten. Its text never appears in logs.
pub struct Secret(String);

impl Secret {
    /// A new one.
    #[must_use]
    pub fn mint() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
    }

    /// The text, for the one answer that shows it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn for_workspace(&self, workspace: WorkspaceId) -> NewToken {
        NewToken {
            id: TokenId::mint(),
            workspace,
            hash: TokenHash::of(self.0.as_bytes()).0,
            prefix: self.0.chars().take(PREFIX).collect::<String>().into(),
            created_at: clock::now(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Of these bytes.
    #[must_use]
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// Compares in constant time, so that timing tells nothing of the secret.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_43_characters_and_only_its_hash_is_stored() {
        let (secret, other) = (Secret::mint(), Secret::mint());
        assert_eq!(secret.reveal().len(), 43);
        assert!(
            secret
                .reveal()
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
        );
        assert_ne!(secret.reveal(), other.reveal());
        let stored = secret.for_workspace(WorkspaceId::mint());
        assert!(secret.reveal().starts_with(&*stored.prefix));
        assert_eq!(stored.prefix.len(), 8);
        assert!(TokenHash::of(secret.reveal().as_bytes()).matches(&TokenHash(stored.hash)));
        assert!(!TokenHash::of(b"another").matches(&TokenHash(stored.hash)));
        assert!(!format!("{secret:?}").contains(secret.reveal()));
    }
}
