//! Which addresses Baton may call (lesson A03; contract §9.1, §6.8): checked when a URL is registered, before each call
//! when its host is an IP literal, and at each connect when it is a name, on the addresses that are about to be dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

mod names;
mod ranges;

use names::Names;

/// A registration waits no longer than this for a name server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a URL may not be called. The texts are those of contract §9.1.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GuardError {
    /// It is no URL, or one with parts that have no place here.
    #[error("url is not valid: {0}")]
    Invalid(String),
    /// It is for another protocol.
    #[error("url scheme must be http or https, got \"{0}\"")]
    Scheme(String),
    /// Its host is an address that may not be called.
    #[error("url targets a blocked address: {0}")]
    Blocked(&'static str),
    /// Its host has no address.
    #[error("hostname \"{host}\" cannot be resolved (DNS error): {reason}")]
    Unresolvable {
        /// The host.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// Its host has an address that may not be called.
    #[error(
        "hostname \"{host}\" resolves to forbidden address: url targets a blocked address: {label}"
    )]
    ResolvesToBlocked {
        /// The host.
        host: String,
        /// What kind of address.
        label: &'static str,
    },
}

/// Says which addresses may be called: public ones, and those that the operator opened (`BATON_TARGET_ALLOW`).
/// The name `localhost` is a name like any other: `127.0.0.0/8` and `::1/128` open it.
#[derive(Clone, Debug)]
pub struct TargetGuard {
    allow: Arc<[IpNet]>,
    names: Names,
}

impl TargetGuard {
    /// A guard that lets through what is public, and `allow`.
    #[must_use]
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self {
            allow: allow.into(),
            names: Names::default(),
        }
    }

    /// Reads `url` and checks all that can be known without asking a name server. The `url` crate has by then turned
    /// every spelling of an IPv4 address (decimal, hexadecimal, octal, short) into the address.
    ///
    /// # Errors
    ///
    /// Any [`GuardError`] but those about names.
    pub fn check_url(&self, url: &str) -> Result<Url, GuardError> {
        let url = Url::parse(url).map_err(|error| GuardError::Invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(GuardError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            let reason = "it must not contain credentials";
            return Err(GuardError::Invalid(reason.to_owned()));
        }
        let address = match url.host() {
            None | Some(Host::Domain("")) => {
                return Err(GuardError::Invalid("empty host".to_owned()));
            }
            Some(Host::Domain(_)) => return Ok(url),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        match self.forbidden(address) {
            Some(label) => Err(GuardError::Blocked(label)),
            None => Ok(url),
        }
    }

    /// Looks the host up and checks every address that it has: at registration one forbidden address is one too many.
    ///
    /// # Errors
    ///
    /// [`GuardError::Unresolvable`] or [`GuardError::ResolvesToBlocked`].
    pub async fn check_resolved(&self, url: &Url) -> Result<(), GuardError> {
        // An IP literal was checked by `check_url`, which is where a `Url` comes from.
        let Some(Host::Domain(host)) = url.host() else {
            return Ok(());
        };
        let found = tokio::time::timeout(LOOKUP_TIMEOUT, self.lookup(host))
            .await
            .unwrap_or_else(|_elapsed| Err(unresolvable(host, "timed out")))?;
        let label = found.iter().find_map(|found| self.forbidden(found.ip()));
        label.map_or(Ok(()), |label| Err(forbidden_name(host, label)))
    }

    /// Both checks, as at registration: the spelling of the address, and what its name stands for now.
    ///
    /// # Errors
    ///
    /// See [`GuardError`].
    pub async fn check(&self, url: &str) -> Result<Url, GuardError> {
        let url = self.check_url(url)?;
        self.check_resolved(&url).await?;
        Ok(url)
    }

    /// The addresses of `host` that may be dialled now. A name may have changed its addresses since it was registered,
    /// so this is asked at each connect.
    pub(super) async fn dialable(&self, host: &str) -> Result<Vec<SocketAddr>, GuardError> {
        let mut blocked = None;
        let mut found = self.lookup(host).await?;
        found.retain(|found| match self.forbidden(found.ip()) {
            None => true,
            label => {
                blocked = label;
                false
            }
        });
        match blocked {
            Some(label) if found.is_empty() => Err(forbidden_name(host, label)),
            _ => Ok(found),
        }
    }

    async fn lookup(&self, host: &str) -> Result<Vec<SocketAddr>, GuardError> {
        match self.names.addresses(host).await {
            Ok(found) if found.is_empty() => Err(unresolvable(host, "no address")),
            Ok(found) => Ok(found.to_vec()),
            Err(error) => Err(unresolvable(host, &error)),
        }
    }

    /// The label of the blocked range that `address` lies in, unless the operator opened it.
    fn forbidden(&self, address: IpAddr) -> Option<&'static str> {
        // ::ffff:a.b.c.d is a.b.c.d to the network, whatever it looks like.
        let address = address.to_canonical();
        if self.allow.iter().any(|open| open.contains(&address)) {
            return None;
        }
        let address = match address {
            IpAddr::V4(address) => return ranges::blocked_v4(address),
            IpAddr::V6(address) => address,
        };
        ranges::blocked_v6(address).or_else(|| {
            // A translator or tunnel delivers to the address inside.
            ranges::embedded_v4(address).and_then(|inner| self.forbidden(IpAddr::V4(inner)))
        })
    }
}

fn unresolvable(host: &str, reason: &str) -> GuardError {
    GuardError::Unresolvable {
        host: host.to_owned(),
        reason: reason.to_owned(),
    }
}

fn forbidden_name(host: &str, label: &'static str) -> GuardError {
    GuardError::ResolvesToBlocked {
        host: host.to_owned(),
        label,
    }
}

#[cfg(test)]
mod tests;
