//! What Baton wants to see of a target that tells it how a task stands. It is believed that something happened, and nothing
//! of what: the target is asked.

use std::fmt;

use serde::Serialize;
use subtle::ConstantTimeEq as _;

use crate::domain::DelegationKey;
use crate::secrets::{self, Secrets};

/// Where a target may tell of one delegation, and what it has to show.
#[derive(Serialize, Clone, PartialEq, Eq)]
pub struct PushConfig {
    /// Its name, of which the target has no other.
    pub id: String,
    /// Where to.
    pub url: String,
    /// To be shown as `X-A2A-Notification-Token`.
    pub token: String,
}

impl fmt::Debug for PushConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.id)
    }
}

/// Whether targets may tell, and where they reach this service.
#[derive(Clone, Debug, Default)]
pub struct PushOffer {
    public_url: Option<Box<str>>,
    secrets: Secrets,
}

impl PushOffer {
    /// An offer to those that can reach `public_url`; without one none is made.
    #[must_use]
    pub fn new(public_url: &str, secrets: Secrets) -> Self {
        let url = public_url.trim().trim_end_matches('/');
        Self {
            public_url: Some(url).filter(|url| !url.is_empty()).map(Into::into),
            secrets,
        }
    }

    /// What a target is offered for a delegation; none when nothing is.
    #[must_use]
    pub fn config_for(&self, key: &DelegationKey) -> Option<PushConfig> {
        let base = self.public_url.as_deref()?;
        let id = key.id.to_string();
        let segment: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let segment = segment.replace('+', "%20");
        Some(PushConfig {
            url: format!("{base}/a2a/notifications/{}/{segment}", key.caller),
            token: self.token(key).ok()?,
            id: format!("baton-{id}"),
        })
    }

    /// Whether this was offered for that delegation. Compared in constant time.
    #[must_use]
    pub fn admits(&self, key: &DelegationKey, token: &[u8]) -> bool {
        let expected = self.token(key);
        expected.is_ok_and(|expected| expected.as_bytes().ct_eq(token).into())
    }

    fn token(&self, key: &DelegationKey) -> Result<String, secrets::Error> {
        self.secrets
            .token_for(&format!("push:{}:{}", key.caller, key.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DelegationId, WorkspaceId};

    #[test]
    fn a_token_admits_to_its_own_delegation_alone() {
        let secrets = Secrets::obtain(&"A".repeat(43), "").unwrap();
        let offer = PushOffer::new("https://baton.example/x/", secrets.clone());
        let key = |id: &str| DelegationKey {
            caller: WorkspaceId::mint(),
            id: DelegationId::from_text(id),
        };
        let (one, other) = (key("a b/c"), key("other"));
        let config = offer.config_for(&one).unwrap();
        let path = format!("{}/a%20b%2Fc", one.caller);
        assert_eq!(
            config.url,
            format!("https://baton.example/x/a2a/notifications/{path}")
        );
        assert!(offer.admits(&one, config.token.as_bytes()));
        assert!(!offer.admits(&other, config.token.as_bytes()));
        assert!(!offer.admits(&one, b""));
        assert!(PushOffer::new(" ", secrets).config_for(&one).is_none());
        let keyless = Secrets::obtain("", "postgres://x").unwrap();
        assert!(
            PushOffer::new("http://x", keyless)
                .config_for(&one)
                .is_none()
        );
    }
}
