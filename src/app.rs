//! The one place where the parts are wired together, started in order, and stopped in the opposite order.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
use actix_web::dev::Server;
use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Notify, watch};

use crate::admin_token::AdminToken;
use crate::auth::Codes;
use crate::config::Config;
use crate::delegation::{self, Delegations, Supervisor, SupervisorSettings};
use crate::dispatch::{A2aClient, ClientConfig, PushOffer, TargetGuard};
use crate::domain::{Policy, RetryPolicy};
use crate::events::EventHub;
use crate::faults::Faults;
use crate::http::{self, AppState, LatestCheck, Readiness, Renderer, Settings, Stopping};
use crate::limits::Arbiters;
use crate::liveness::Liveness;
use crate::outbox::{Outbox, OutboxSettings};
use crate::persistence::{
    self, BatchLimits, GateLimits, Persistence, PersistenceActor, PersistenceSettings, Retention,
};
use crate::secrets::Secrets;
use crate::store::{self, Heard, Lease, Listening, Store, StoreOptions};
use crate::telemetry::{History, Standing};

/// How long requests in flight may take to finish once the service is told to stop.
const REQUEST_GRACE: Duration = Duration::from_secs(2);
/// How long calls in flight may take to bring their answer: what they bring later is asked for after the next start.
const CALL_GRACE: Duration = Duration::from_secs(3);
/// How long the last commits may take.
const DRAIN_GRACE: Duration = Duration::from_secs(3);
/// How long the lease may take to be given up.
const LEAVE_GRACE: Duration = Duration::from_secs(1);
/// How often measurements are folded into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How long a read may take, so that a request is answered within a second.
const READ_BUDGET: Duration = Duration::from_millis(900);

/// What the other parts stand on.
#[derive(Clone)]
struct Ground {
    store: Store,
    persistence: Persistence,
    events: EventHub,
    guard: TargetGuard,
    secrets: Secrets,
}

/// A running Baton.
pub struct App {
    address: SocketAddr,
    database: String,
    admin_token: AdminToken,
    codes: Codes,
    server: Server,
    delegations: Delegations,
    persistence: Persistence,
    store: Store,
    stopping: watch::Sender<bool>,
    _listening: Option<Listening>,
}

impl App {
    /// Opens the database, migrates it, takes charge of what is live in it, and starts to listen.
    ///
    /// # Errors
    /// When the database, the admin token's file or the address cannot be used; the message says what to do.
    pub async fn start(config: Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        config.check().map_err(anyhow::Error::msg)?;
        let faults: Arc<Faults> = Arc::new(config.faults.parse().map_err(anyhow::Error::msg)?);
        let wanted = SocketAddr::from((config.host, config.port));
        let listener = http::listen(wanted)
            .with_context(|| format!("cannot listen on {wanted} (HOST, PORT)"))?;
        let address = listener.local_addr()?;
        let (store, lease) = open_store(&config).await?;
        let admin_token = AdminToken::obtain(&config)?;
        let liveness = Liveness::default();
        let history = History::begin(Duration::from_millis(config.history_step_ms));
        let reply_owed = Arc::new(Notify::new());
        let arbiters = Arbiters::start(blocking(&config));
        let actors = arbiters.first();
        let ground = lay_ground(&config, store, &lease, &reply_owed, &faults, actors).await?;
        let delegations = start_delegations(&config, &ground, faults, arbiters)?;
        let outbox = start_outbox(&config, &ground);
        let listening = listen(&ground.store, &lease, &ground.events, &delegations)?;
        let (readiness, codes) = (Readiness::default(), Codes::default());
        let (stopping, stopped) = Stopping::new();
        let Ground {
            store, persistence, ..
        } = ground.clone();
        let state = AppState {
            push: push_offer(&config, &ground),
            store: store.clone(),
            persistence: persistence.clone(),
            delegations: delegations.clone(),
            events: ground.events,
            guard: ground.guard,
            secrets: ground.secrets,
            outbox: outbox.clone(),
            settings: Settings::from(&config),
            admin: admin_token.hash(),
            codes: codes.clone(),
            readiness: readiness.clone(),
            stopping: stopped,
            liveness: liveness.clone(),
            metrics,
            history: history.clone(),
            latest_check: LatestCheck::default(),
        };
        keep_history(history, &delegations, &persistence, &liveness);
        keep_metrics_small(state.metrics.clone());
        start_pruning(&config, &store, &persistence, &liveness);
        let server = http::serve(state, listener, REQUEST_GRACE)?;
        let sweep_interval = Duration::from_secs(config.delegation_sweeper_interval_s);
        supervise(&delegations, &outbox, &liveness, sweep_interval);
        write_what_is_left(&store, &persistence, reply_owed, sweep_interval, &liveness);
        readiness.ready();
        let database = redact(&config.database_url);
        Ok(Self {
            address,
            database,
            admin_token,
            codes,
            server,
            delegations,
            persistence,
            store,
            stopping,
            _listening: listening,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin token, and where it is kept if it was minted.
    #[must_use]
    pub const fn admin_token(&self) -> &AdminToken {
        &self.admin_token
    }

    /// An address that signs its first reader in as the admin, within ten minutes.
    #[must_use]
    pub fn sign_in_link(&self) -> String {
        let code = self.codes.mint(self.admin_token.reveal(), Instant::now());
        format!("http://{}/#code={code}", reachable(self.address))
    }

    /// Where to look, and what to try first.
    #[must_use]
    pub fn banner(&self) -> String {
        let base = format!("http://{}", reachable(self.address));
        let (token, kept) = match self.admin_token.file() {
            Some(file) => (
                format!("$(cat {})", file.display()),
                file.display().to_string(),
            ),
            None => ("$ADMIN_TOKEN".to_owned(), "given (ADMIN_TOKEN)".to_owned()),
        };
        format!(
            "listening on http://{}\n\
             database     {}\n\
             admin token  {kept}\n\
             canvas       {base}/ (sign in with the admin token, or a workspace's)\n\
             API          {base}/docs\n\
             try:\n  \
             curl {base}/health\n  \
             curl -H \"Authorization: Bearer {token}\" {base}/workspaces -d '{{\"name\":\"me\",\"external\":true}}'\n  \
             curl -H \"Authorization: Bearer {token}\" {base}/admin/delegations/stats",
            self.address, self.database
        )
    }

    /// Serves until `stop`, then stops in order: no new requests, the last answers of targets, the last commits.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let handle = self.server.handle();
        let mut server = actix_web::rt::spawn(self.server);
        let ended = tokio::select! {
            ended = &mut server => ended,
            () = stop => {
                tracing::info!("stopping");
                // Requests that wait on purpose are told to end; an error means that none is left.
                let _nobody_waits = self.stopping.send(true);
                handle.stop(true).await;
                server.await
            }
        };
        finish(&self.delegations, &self.persistence, &self.store).await;
        ended
            .context("the server's task failed")?
            .context("the server failed")
    }
}

/// The last answers of targets, the last commits, each within its grace.
async fn finish(delegations: &Delegations, persistence: &Persistence, store: &Store) {
    let (answered, noted) = tokio::join!(
        tokio::time::timeout(CALL_GRACE, delegations.calls_answered()),
        tokio::time::timeout(CALL_GRACE, persistence::note_token_uses(store, persistence)),
    );
    let drained = tokio::time::timeout(DRAIN_GRACE, persistence.drain()).await;
    let left = tokio::time::timeout(LEAVE_GRACE, persistence.leave()).await;
    // What was left is asked for after the next start; what was not committed was not acknowledged.
    tracing::info!(
        all_answered = answered.is_ok(),
        uses_noted = noted.is_ok(),
        all_committed = drained.is_ok(),
        lease_given_up = left.is_ok(),
        "stopped"
    );
}

/// Takes over what others left, and looks for what nobody has in charge.
fn supervise(
    delegations: &Delegations,
    outbox: &Outbox,
    liveness: &Liveness,
    sweep_interval: Duration,
) {
    let pulse = liveness.clone();
    let told = outbox.clone();
    actix_web::rt::spawn(told.take_on_regularly(move || pulse.tick("outbox")));
    let (everything, pulse) = (delegations.clone(), liveness.clone());
    let outbox = outbox.clone();
    actix_web::rt::spawn(async move {
        let (tick, taken) = (|| pulse.tick("takeover"), || outbox.look_again());
        delegation::take_over(&everything, tick, taken).await;
    });
    let (everything, pulse) = (delegations.clone(), liveness.clone());
    actix_web::rt::spawn(async move {
        delegation::sweep(&everything, sweep_interval, || pulse.tick("sweep")).await;
    });
}

/// Writes what no request waits for: owed replies, and when tokens were used.
fn write_what_is_left(
    store: &Store,
    persistence: &Persistence,
    reply_owed: Arc<Notify>,
    sweep_interval: Duration,
    liveness: &Liveness,
) {
    let pulse = liveness.clone();
    actix_web::rt::spawn(persistence::deliver_owed_replies(
        store.clone(),
        persistence.clone(),
        reply_owed,
        sweep_interval,
        move || pulse.tick("owed_replies"),
    ));
    let pulse = liveness.clone();
    actix_web::rt::spawn(persistence::note_token_uses_regularly(
        store.clone(),
        persistence.clone(),
        move || pulse.tick("token_uses"),
    ));
}

/// Passes on what other nodes commit.
fn listen(
    store: &Store,
    lease: &Lease,
    events: &EventHub,
    delegations: &Delegations,
) -> Result<Option<Listening>, store::Error> {
    let (events, delegations) = (events.clone(), delegations.clone());
    store.listen(lease, move |heard| {
        let Heard {
            all,
            workspaces,
            moved,
            targets,
        } = heard;
        if all {
            events.all_grown();
        } else {
            events.grown(&workspaces);
        }
        if !moved.is_empty() {
            delegations.moved_elsewhere(moved);
        }
        for target in targets {
            delegations.target_stirred(target);
        }
    })
}

/// Of what actors have to wait for on threads, as many reads as there may be at once, and beside them a commit and the
/// looking up of names.
fn blocking(config: &Config) -> usize {
    usize::try_from(config.read_connections).map_or(usize::MAX, |reads| reads.saturating_add(3))
}

/// Measurements are folded into their buckets now and then, or they would pile up where nobody reads the metrics.
fn keep_metrics_small(metrics: PrometheusHandle) {
    actix_web::rt::spawn(async move {
        loop {
            tokio::time::sleep(METRICS_UPKEEP).await;
            metrics.run_upkeep();
        }
    });
}

/// Remembers what the last hour was like.
fn keep_history(
    history: History,
    delegations: &Delegations,
    persistence: &Persistence,
    liveness: &Liveness,
) {
    let (live, gate, pulse) = (
        delegations.clone(),
        Arc::clone(persistence.gate()),
        liveness.clone(),
    );
    let standing = move || Standing::new(&live.live(), gate.waiting(), live.calls());
    actix_web::rt::spawn(history.keep(standing, move || pulse.tick("history")));
}

async fn open_store(config: &Config) -> anyhow::Result<(Store, Lease)> {
    let options = StoreOptions {
        url: config.database_url.clone(),
        read_connections: u32::try_from(config.read_connections)?,
        read_budget: READ_BUDGET,
    };
    let length = Duration::from_millis(config.lease_ms);
    let opened = tokio::task::spawn_blocking(move || {
        let store = Store::open(&options)?;
        let lease = store.join(length)?;
        Ok::<_, store::Error>((store, lease))
    });
    opened
        .await?
        .context("cannot open the database (DATABASE_URL)")
}

async fn lay_ground(
    config: &Config,
    store: Store,
    lease: &Lease,
    reply_owed: &Arc<Notify>,
    faults: &Arc<Faults>,
    arbiter: &ArbiterHandle,
) -> anyhow::Result<Ground> {
    let events = EventHub::default();
    let settings = PersistenceSettings {
        store: store.clone(),
        lease: lease.clone(),
        hub: events.clone(),
        limits: BatchLimits {
            size: usize::try_from(config.batch_size)?,
            linger: Duration::from_micros(config.batch_linger_us),
        },
        gate: GateLimits {
            wait: Duration::from_millis(config.max_wait_ms),
            bodies: u64::try_from(config.max_bodies_bytes)?,
        },
        reply_owed: Arc::clone(reply_owed),
        faults: Arc::clone(faults),
    };
    let (opener, lease) = (store.clone(), lease.clone());
    let writer = tokio::task::spawn_blocking(move || opener.writer(&lease)).await?;
    let writer = writer.context("cannot write to the database (DATABASE_URL)")?;
    Ok(Ground {
        persistence: PersistenceActor::launch(settings, writer, arbiter),
        guard: TargetGuard::new(config.target_allow.clone()),
        secrets: Secrets::obtain(&config.secret_key, &config.database_url)?,
        store,
        events,
    })
}

fn start_delegations(
    config: &Config,
    ground: &Ground,
    faults: Arc<Faults>,
    arbiters: Arbiters,
) -> anyhow::Result<Delegations> {
    let first_byte = Duration::from_secs(config.first_byte_timeout_s);
    let client = A2aClient::new(ClientConfig {
        guard: ground.guard.clone(),
        connect_timeout: Duration::from_secs(config.connect_timeout_s),
        first_byte_timeout: (!first_byte.is_zero()).then_some(first_byte),
        idle_timeout: Duration::from_secs(config.idle_timeout_s),
        max_reply_bytes: config.max_reply_bytes,
        faults: Arc::clone(&faults),
    });
    let retry = RetryPolicy {
        base: Duration::from_millis(config.retry_base_ms),
        ..RetryPolicy::default()
    };
    Ok(Supervisor::launch(SupervisorSettings {
        policy: Policy {
            retry,
            give_up_after: Duration::from_secs(config.retry_budget_s),
            stuck_after: Duration::from_secs(config.delegation_stuck_threshold_s),
        },
        push_replies: config.inbox_push(),
        default_deadline: config.deadline(),
        max_live: config.max_live,
        max_outbound: usize::try_from(config.max_outbound)?,
        arbiters,
        persistence: ground.persistence.clone(),
        store: ground.store.clone(),
        client,
        secrets: ground.secrets.clone(),
        push: push_offer(config, ground),
        faults,
    }))
}

fn push_offer(config: &Config, ground: &Ground) -> PushOffer {
    PushOffer::new(&config.public_url, ground.secrets.clone())
}

fn start_outbox(config: &Config, ground: &Ground) -> Outbox {
    let Ground {
        store,
        persistence,
        events,
        guard,
        secrets,
    } = ground.clone();
    Outbox::launch(OutboxSettings {
        render: Box::new(Renderer::new(store.clone())),
        store,
        persistence,
        hub: events,
        guard,
        secrets,
        give_up_after: Duration::from_secs(config.push_give_up_s),
    })
}

fn start_pruning(config: &Config, store: &Store, persistence: &Persistence, liveness: &Liveness) {
    let days = |days: u64| Duration::from_hours(days.saturating_mul(24));
    let retention = Retention {
        keep: days(config.activity_retention_days),
        keep_hard: days(config.activity_hard_retention_days),
        interval: Duration::from_hours(config.activity_cleanup_interval_hours),
    };
    let liveness = liveness.clone();
    actix_web::rt::spawn(persistence::prune_regularly(
        store.clone(),
        persistence.clone(),
        retention,
        move || liveness.tick("retention"),
    ));
}

/// Where a browser on this machine finds it: an address that stands for all of the machine's is none to go to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// A database's address without its password.
fn redact(url: &str) -> String {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // It had a password, so it can have another.
            let _replaced = parsed.set_password(Some("***"));
            parsed.to_string()
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_an_address_to_go_to() {
        let shown = |listening: &str| reachable(listening.parse().unwrap()).to_string();
        assert_eq!(shown("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(shown("[::]:1"), "[::1]:1");
        assert_eq!(shown("10.0.0.7:80"), "10.0.0.7:80");
    }
}
