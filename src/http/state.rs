//! What the handlers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;

use super::health_history::LatestCheck;
use crate::auth::{Codes, TokenHash};
use crate::config::Config;
use crate::delegation::Delegations;
use crate::dispatch::{PushOffer, TargetGuard};
use crate::domain::Timestamp;
use crate::events::EventHub;
use crate::liveness::Liveness;
use crate::outbox::Outbox;
use crate::persistence::Persistence;
use crate::secrets::Secrets;
use crate::store::{AuditLimits, Store};
use crate::telemetry::History;

/// The part of the configuration that HTTP needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Longest request body.
    pub max_body_bytes: usize,
    /// Where others reach this service; empty when nobody said.
    pub public_url: Arc<str>,
    /// Whether replies are written into inboxes.
    pub inbox_push: bool,
    /// Default deadline of a delegation.
    pub deadline: Duration,
    /// Requests a minute for each peer address; 0 is off.
    pub rate_limit: u32,
    /// Reads at once.
    pub read_connections: usize,
    /// Browser origins that may call.
    pub cors_origins: Arc<[String]>,
    /// How long after its deadline a live delegation is a broken promise.
    pub overdue_grace: Duration,
    /// How old a row may be that is missing without a promise being broken: it was pruned.
    pub retention: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let sweep = Duration::from_secs(config.delegation_sweeper_interval_s);
        let origins = config.cors_origins.iter().map(|origin| origin.trim());
        Self {
            max_body_bytes: config.max_body_bytes,
            public_url: config.public_url.trim().into(),
            inbox_push: config.inbox_push(),
            deadline: config.deadline(),
            rate_limit: config.rate_limit,
            read_connections: usize::try_from(config.read_connections).unwrap_or(1),
            cors_origins: origins
                .filter(|origin| !origin.is_empty())
                .map(ToOwned::to_owned)
                .collect(),
            overdue_grace: sweep
                .saturating_mul(2)
                .saturating_add(Duration::from_mins(1)),
            retention: Duration::from_hours(config.activity_retention_days.saturating_mul(24)),
        }
    }
}

impl Settings {
    /// What stored delegations are judged by at this instant.
    pub(crate) fn audit_limits(&self, now: Timestamp) -> AuditLimits {
        AuditLimits {
            overdue_before: now.minus(self.overdue_grace),
            pruned_before: now.minus(self.retention),
        }
    }
}

/// Whether the service has come up. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that the database is migrated and the delegations of before are taken up.
    pub fn ready(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Tells requests that wait that the service is going down. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// With the other end, which says so by sending `true`, or by being dropped.
    #[must_use]
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until it is said.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the other end is gone, which says the same.
        drop(receiver.wait_for(|stopping| *stopping).await);
    }
}

/// What the handlers share. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Reads.
    pub store: Store,
    /// Writes that belong to no delegation.
    pub persistence: Persistence,
    /// Delegations.
    pub delegations: Delegations,
    /// Events.
    pub events: EventHub,
    /// Which addresses agents may have.
    pub guard: TargetGuard,
    /// Seals what is shown to agents.
    pub secrets: Secrets,
    /// Who is told by HTTP.
    pub outbox: Outbox,
    /// What agents that tell of their tasks have to show.
    pub push: PushOffer,
    /// Limits and defaults.
    pub settings: Settings,
    /// SHA-256 of the admin token.
    pub admin: TokenHash,
    /// One-time codes to sign in with.
    pub codes: Codes,
    /// Whether the service has come up.
    pub readiness: Readiness,
    /// Whether it is going down.
    pub stopping: Stopping,
    /// When background loops last ran.
    pub liveness: Liveness,
    /// The metrics.
    pub metrics: PrometheusHandle,
    /// The last hour.
    pub history: History,
    /// What the latest look at the newest delegations found.
    pub latest_check: LatestCheck,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn those_who_wait_are_told_once_and_for_all() {
        let (sender, stopping) = Stopping::new();
        assert!(
            tokio::time::timeout(Duration::from_millis(5), stopping.wait())
                .await
                .is_err()
        );
        sender.send(true).unwrap();
        stopping.wait().await;
        stopping.clone().wait().await;
        let (sender, stopping) = Stopping::new();
        drop(sender);
        stopping.wait().await;
    }
}
