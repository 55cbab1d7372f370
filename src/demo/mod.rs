//! The demonstration: a server on a temporary database, and scripted agents that delegate among each other.

mod api;
mod lively;
mod once;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::App;
use crate::config::{Config, DemoOptions};

/// What of the configuration is the demonstration's own.
///
/// # Errors
/// None that the configuration could be blamed for.
pub fn suit(config: &mut Config, options: DemoOptions) -> anyhow::Result<()> {
    "1".clone_into(&mut config.inbox_push_flag);
    config.rate_limit = 0;
    config.target_allow = vec!["127.0.0.0/8".parse()?];
    if stays(options) {
        lively::suit(config);
    } else {
        config.port = 0;
    }
    Ok(())
}

fn stays(options: DemoOptions) -> bool {
    options.stay || (!options.once && std::io::stdout().is_terminal())
}

/// Runs it, [suited](suit()): for as long as somebody looks on where there is a terminal, else once.
///
/// # Errors
/// When the server cannot start; of what is played once, when a reply is missing after a minute.
pub async fn run(
    mut config: Config,
    options: DemoOptions,
    metrics: PrometheusHandle,
) -> anyhow::Result<()> {
    let directory =
        std::env::temp_dir().join(format!("baton-demo-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir(&directory)?;
    config.database_url = format!("sqlite://{}", directory.join("demo.db").display());
    let shown = show(config, options, metrics).await;
    let removed = std::fs::remove_dir_all(&directory);
    // What went wrong before says more.
    shown?;
    removed.with_context(|| format!("cannot remove {}", directory.display()))
}

async fn show(
    config: Config,
    options: DemoOptions,
    metrics: PrometheusHandle,
) -> anyhow::Result<()> {
    let app = App::start(config, metrics).await?;
    if stays(options) {
        lively::show(app).await
    } else {
        once::show(app).await
    }
}
