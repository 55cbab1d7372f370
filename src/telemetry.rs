//! Logs and metrics: set up once, at start.

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

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
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    started
        .map_err(|error| anyhow::anyhow!(error))
        .context("logging could not be started")?;
    let metrics = PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(Matcher::Full("baton_batch_size".to_owned()), &SIZES)?
        .install_recorder()?;
    describe();
    Ok(metrics)
}

/// Every promised effect has a counter from the first scrape on, so that "never happened" can be told from "not
/// measured" (lesson O01).
fn describe() {
    metrics::describe_counter!(
        "baton_delegations_accepted_total",
        "Delegations whose beginning was committed"
    );
    metrics::describe_counter!(
        "baton_delegations_refused_total",
        "Delegations refused at a limit"
    );
    metrics::describe_counter!(
        "baton_delegations_ended_total",
        "Endings committed, by status"
    );
    metrics::describe_counter!("baton_result_rows_total", "Result rows committed");
    metrics::describe_counter!(
        "baton_replies_total",
        "Replies: attempted, owed, delivered_late"
    );
    metrics::describe_counter!(
        "baton_late_results_total",
        "Answers kept that came after the ending"
    );
    metrics::describe_counter!(
        "baton_calls_total",
        "Calls to targets, attempted and by outcome"
    );
    metrics::describe_counter!(
        "baton_events_ignored_total",
        "Events that changed nothing, by reason"
    );
    metrics::describe_counter!("baton_actor_panics_total", "Panics in delegations' actors");
    metrics::describe_counter!(
        "baton_actors_rebuilt_total",
        "Actors rebuilt from the store"
    );
    metrics::describe_counter!(
        "baton_writes_refused_total",
        "Writes that the database refused for good"
    );
    metrics::describe_counter!(
        "baton_commit_failures_total",
        "Batches that could not be committed and wait"
    );
    metrics::describe_gauge!("baton_write_queue", "Writes that wait for a commit");
    metrics::describe_gauge!(
        "baton_delegations_live",
        "Live delegations on this node, by status"
    );
    metrics::describe_histogram!("baton_batch_size", "Writes in one commit");
    metrics::describe_histogram!("baton_commit_seconds", "Time of one commit");
    metrics::describe_histogram!("baton_call_seconds", "Time of one call to a target");
    metrics::describe_histogram!("baton_delegation_seconds", "Time from acceptance to ending");
    for name in [
        "baton_delegations_accepted_total",
        "baton_result_rows_total",
        "baton_late_results_total",
        "baton_actor_panics_total",
        "baton_actors_rebuilt_total",
        "baton_writes_refused_total",
        "baton_commit_failures_total",
    ] {
        metrics::counter!(name).absolute(0);
    }
    for result in ["attempted", "owed", "delivered_late"] {
        metrics::counter!("baton_replies_total", "result" => result).absolute(0);
    }
}
