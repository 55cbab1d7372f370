//! Logs and metrics: set up once, at start; and what the last hour was like.

mod endings;
mod histogram;
mod history;
mod totals;

use std::io::IsTerminal as _;
use std::sync::LazyLock;

use anyhow::Context;
use metrics::Counter as Handle;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use self::Kind::{Counter, Gauge, Histogram};
use crate::config::{Config, LogFormat};

pub use endings::ended;
pub use histogram::{Bucket, Histogram as Times};
pub use history::{History, Quantiles, Sample, Standing};
pub use totals::{TOTALS, Totals, called, committed};

/// Buckets for durations, in seconds: from a commit's to a long task's.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0,
];
/// Buckets for the size of a batch.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// Starts logging to standard error and collecting metrics.
///
/// # Errors
/// When the log filter cannot be read, or another collector is installed.
pub fn start(config: &Config) -> anyhow::Result<PrometheusHandle> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| {
        format!(
            "BATON_LOG is {:?}, but must be a filter such as info,baton=debug",
            config.log
        )
    })?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started
        .map_err(|error| anyhow::anyhow!(error))
        .context("logging could not be started")?;
    let metrics = in_buckets()?.install_recorder()?;
    describe();
    Ok(metrics)
}

/// Buckets can be added up over nodes, quantiles cannot.
fn in_buckets() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(Matcher::Full("baton_batch_size".to_owned()), &SIZES)
}

/// What a metric is; its name says it too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// `…_total`: it only grows.
    Counter,
    /// What is now.
    Gauge,
    /// `…_seconds`, or `…_size`.
    Histogram,
}

/// Every metric there is. A test holds this against the places where they are measured.
const METRICS: &[(Kind, &str, &str)] = &[
    (
        Counter,
        "baton_delegations_accepted_total",
        "Delegations whose beginning was committed",
    ),
    (
        Counter,
        "baton_delegations_refused_total",
        "Delegations refused at a limit",
    ),
    (
        Counter,
        "baton_delegations_ended_total",
        "Endings committed, by status; failures also by class",
    ),
    (
        Counter,
        "baton_effects_total",
        "What is promised (acceptance, call, ending, reply): attempted, succeeded, failed",
    ),
    (
        Counter,
        "baton_late_results_total",
        "Answers kept that came after the ending",
    ),
    (Counter, "baton_calls_total", "Calls to targets, by outcome"),
    (
        Counter,
        "baton_connections_total",
        "Connections that requests to targets went out on, new or kept",
    ),
    (
        Counter,
        "baton_cards_total",
        "Looks for agents' cards, by what came of them",
    ),
    (
        Counter,
        "baton_asks_total",
        "Questions to targets after their tasks, by what came of them",
    ),
    (
        Counter,
        "baton_push_total",
        "Requests to receivers of events, delivered or failed",
    ),
    (
        Counter,
        "baton_push_dead_total",
        "Receivers of events that are told no more",
    ),
    (
        Counter,
        "baton_events_ignored_total",
        "Events that changed nothing, by reason",
    ),
    (
        Counter,
        "baton_actor_panics_total",
        "Panics in delegations' actors",
    ),
    (
        Counter,
        "baton_call_panics_total",
        "Panics in calls to targets, whose outcome is then unknown",
    ),
    (
        Counter,
        "baton_actors_rebuilt_total",
        "Actors rebuilt from the store",
    ),
    (
        Counter,
        "baton_writes_refused_total",
        "Writes that the database refused for good",
    ),
    (
        Counter,
        "baton_commit_failures_total",
        "Batches that could not be committed and wait",
    ),
    (
        Counter,
        "baton_batches_total",
        "Batches of writes, by what closed them",
    ),
    (
        Counter,
        "baton_batches_refused_total",
        "Batches that had to be stored write by write",
    ),
    (
        Counter,
        "baton_store_reads_total",
        "Questions to the database, by what was asked; what is remembered is not asked",
    ),
    (
        Counter,
        "baton_listener_dropped_total",
        "Messages that a slow listener missed",
    ),
    (
        Counter,
        "baton_http_requests_total",
        "Requests answered, by method, route and status",
    ),
    (
        Counter,
        "baton_http_panics_total",
        "Panics in handlers of requests",
    ),
    (
        Counter,
        "baton_http_rate_limited_total",
        "Requests refused because the peer sent too many",
    ),
    (
        Counter,
        "baton_requests_shed_total",
        "Requests refused because they could not be answered in time, by reason",
    ),
    (
        Gauge,
        "baton_tickets_taken",
        "Requests let in that write and are not answered yet",
    ),
    (
        Gauge,
        "baton_tickets_allowed",
        "How many of those there may be at present",
    ),
    (
        Gauge,
        "baton_body_bytes",
        "Bytes of request bodies in flight",
    ),
    (Gauge, "baton_write_queue", "Writes that wait for a commit"),
    (
        Gauge,
        "baton_delegations_live",
        "Live delegations on this node, by status",
    ),
    (
        Gauge,
        "baton_calls_in_flight",
        "Calls to targets that are under way",
    ),
    (
        Gauge,
        "baton_event_listeners",
        "Streams, sockets and waiting inboxes",
    ),
    (Histogram, "baton_batch_size", "Writes in one commit"),
    (
        Histogram,
        "baton_write_wait_seconds",
        "How long a write would wait for its commit, reckoned after each commit",
    ),
    (Histogram, "baton_commit_seconds", "Time of one commit"),
    (
        Histogram,
        "baton_call_seconds",
        "Time of one call to a target",
    ),
    (
        Histogram,
        "baton_delegation_seconds",
        "Time from acceptance to ending",
    ),
    (
        Histogram,
        "baton_http_request_duration_seconds",
        "Time to the head of an answer, by method, route and status",
    ),
];

/// Every promised effect has a counter from the first scrape on, so that "never happened" can be told from "not
/// measured" (lesson O01).
fn describe() {
    for (kind, name, help) in METRICS.iter().copied() {
        match kind {
            Counter => metrics::describe_counter!(name, help),
            Gauge => metrics::describe_gauge!(name, help),
            Histogram => metrics::describe_histogram!(name, help),
        }
    }
    for name in [
        "baton_delegations_accepted_total",
        "baton_late_results_total",
        "baton_actor_panics_total",
        "baton_call_panics_total",
        "baton_actors_rebuilt_total",
        "baton_writes_refused_total",
        "baton_commit_failures_total",
        "baton_listener_dropped_total",
        "baton_http_panics_total",
        "baton_http_rate_limited_total",
    ] {
        metrics::counter!(name).absolute(0);
    }
    for reason in ["full", "share", "bodies"] {
        metrics::counter!("baton_requests_shed_total", "reason" => reason).absolute(0);
    }
    for effect in Effect::ALL {
        for result in [Progress::Attempted, Progress::Succeeded, Progress::Failed] {
            count(effect, result, 0);
        }
    }
}

/// What Baton promises to do, once it has said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A delegation begins.
    Acceptance,
    /// A target is called, and says something.
    Call,
    /// A delegation ends, with its result row.
    Ending,
    /// The reply appears in the caller's inbox.
    Reply,
}

impl Effect {
    const ALL: [Self; 4] = [Self::Acceptance, Self::Call, Self::Ending, Self::Reply];
}

/// The counters of one effect.
struct Counted {
    attempted: Handle,
    succeeded: Handle,
    failed: Handle,
}

/// Those of [`Effect::ALL`]: to look one up costs more than to count.
static COUNTED: LazyLock<[Counted; 4]> = LazyLock::new(|| {
    ["acceptance", "call", "ending", "reply"].map(|effect| {
        let counter = |result: &'static str| metrics::counter!("baton_effects_total", "effect" => effect, "result" => result);
        Counted {
            attempted: counter("attempted"),
            succeeded: counter("succeeded"),
            failed: counter("failed"),
        }
    })
});

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It was tried.
    Attempted,
    /// It is done.
    Succeeded,
    /// It was not done by this try.
    Failed,
}

/// Counts promised effects, so that a path that never works cannot look healthy (lesson O01).
pub fn count(effect: Effect, progress: Progress, times: u64) {
    let [acceptance, call, ending, reply] = &*COUNTED;
    let of_effect = match effect {
        Effect::Acceptance => acceptance,
        Effect::Call => call,
        Effect::Ending => ending,
        Effect::Reply => reply,
    };
    let counter = match progress {
        Progress::Attempted => &of_effect.attempted,
        Progress::Succeeded => &of_effect.succeeded,
        Progress::Failed => &of_effect.failed,
    };
    counter.increment(times);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The metrics that are measured somewhere below `folder`, by macro and name.
    fn measured(folder: &Path, found: &mut BTreeSet<(String, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                measured(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for kind in ["counter", "gauge", "histogram"] {
                for after in text.split(&format!("metrics::{kind}!(")).skip(1) {
                    let name = after.trim_start().strip_prefix('"');
                    let name = name.and_then(|name| Some(name.split_once('"')?.0));
                    found.extend(name.map(|name| (kind.to_owned(), name.to_owned())));
                }
            }
        }
    }

    #[test]
    fn what_is_measured_is_described_and_the_reverse() {
        let mut found = BTreeSet::new();
        measured(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut found,
        );
        let described: BTreeSet<_> = METRICS
            .iter()
            .map(|(kind, name, _)| (format!("{kind:?}").to_lowercase(), (*name).to_owned()))
            .collect();
        assert_eq!(found, described);
    }

    #[test]
    fn a_name_says_what_is_measured() {
        for (kind, name, help) in METRICS {
            let counts = name.ends_with("_total");
            let lasts = name.ends_with("_seconds") || name.ends_with("_size");
            assert_eq!(counts, *kind == Counter, "{name}");
            assert_eq!(lasts, *kind == Histogram, "{name}");
            assert!(name.starts_with("baton_") && !help.is_empty(), "{name}");
        }
    }

    #[test]
    fn times_are_shown_in_buckets_and_not_as_quantiles() {
        let recorder = in_buckets().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("baton_http_request_duration_seconds").record(0.2);
        });
        let shown = recorder.handle().render();
        assert!(
            shown.contains("baton_http_request_duration_seconds_bucket{le=\"0.25\"} 1"),
            "{shown}"
        );
    }
}
