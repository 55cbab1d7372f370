//! The physical limit: the rows of endings, written in large batches by the same client library with nothing else
//! running. Whatever a server does, it cannot end delegations faster on this machine and this database.
//!
//! As in `history`, columns are looked up, and what the rows hold is taken from delegations that the server ended.

mod rows;

use std::time::Duration;

use tokio::time::Instant;

use super::costs::float;
use super::database::Database;
use super::figures::Figures;
use super::history::{self, Original, Past};
use super::load::Latencies;
use super::report::Report;
use super::rig::{Rig, past_of};
use super::server::Kind;
use crate::config::{BenchOptions, Config};
use rows::Writing;

/// How many endings share a commit, on how many connections.
const SHAPES: [(u64, u64); 5] = [(64, 1), (100, 1), (500, 1), (100, 2), (500, 2)];
/// How many endings are written for each shape, unless `--count` says it.
const ENDINGS: u64 = 40_000;

/// Measures it.
pub(super) async fn measure(
    options: &BenchOptions,
    config: &Config,
) -> anyhow::Result<Vec<Report>> {
    // The first has the past, the others nothing but what is copied.
    let options = &BenchOptions {
        workspaces: 3,
        ..options.clone()
    };
    let rig = Rig::set_up(Kind::Baton, options, config, &super::Agents::default()).await?;
    let ((_, first), (_, second)) = (rig.seat(1)?, rig.seat(2)?);
    let ended = past_of(&rig, first, true).await?;
    let live = past_of(&rig, second, false).await?;
    let Rig { server, .. } = rig;
    let database = server.into_database()?;
    let endings = options.count.map_or(ENDINGS, u64::from);
    let mut reports = Vec::new();
    let mut from = options.history;
    for (batch, connections) in SHAPES {
        if connections > 1 && matches!(database, Database::Sqlite { .. }) {
            continue;
        }
        let mut runs = Vec::new();
        for _ in 0..options.runs {
            let range = (from, from + endings);
            runs.push(run(&database, (&live, &ended), range, batch, connections)?);
            from += endings;
        }
        let report = Report {
            workload: format!("limit, {batch} in a commit, {connections} connections"),
            server: "rows alone",
            database: database.kind(),
            runs,
            complaints: None,
            refusal: None,
        };
        print!("{}", report.text());
        reports.push(report);
    }
    Ok(reports)
}

/// Makes live delegations with these numbers, unmeasured, and ends them.
fn run(
    database: &Database,
    (live, ended): (&Original, &Original),
    (from, to): (u64, u64),
    batch: u64,
    connections: u64,
) -> anyhow::Result<Figures> {
    let mut connection = database.open()?;
    let past = Past {
        from,
        to,
        in_one: 0,
        one: &live.caller,
    };
    history::fill(&mut connection, live, past)?;
    history::settle(&mut connection)?;
    let writing = Writing::prepare(&mut connection, ended, to)?;
    let share = (to - from).div_ceil(connections);
    let begun = Instant::now();
    let commits = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|number| {
                let first = from + number * share;
                let writing = &writing;
                scope.spawn(move || write(database, writing, (first, to.min(first + share)), batch))
            })
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|done| done.map_err(|_panic| anyhow::anyhow!("a writer panicked"))?)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut latencies = Latencies::new()?;
    commits
        .into_iter()
        .flatten()
        .for_each(|latency| latencies.record(latency));
    let mut figures = Figures::default();
    figures.add("operations", float(to - from));
    figures.add("seconds", seconds);
    figures.add("per_second", float(to - from) / seconds);
    figures.add("commit_p50_ms", latencies.quantile(0.5));
    figures.add("commit_p99_ms", latencies.quantile(0.99));
    Ok(figures)
}

/// Ends these delegations, and says how long each commit took.
fn write(
    database: &Database,
    writing: &Writing,
    (from, to): (u64, u64),
    batch: u64,
) -> anyhow::Result<Vec<Duration>> {
    let mut connection = database.open()?;
    let mut commits = Vec::new();
    let mut first = from;
    while first < to {
        let last = to.min(first + batch);
        let begun = Instant::now();
        connection.execute("BEGIN")?;
        let ended = writing.end(&mut connection, first, last)?;
        connection.execute("COMMIT")?;
        commits.push(begun.elapsed());
        anyhow::ensure!(
            ended == last - first,
            "{ended} of {batch} were there to end"
        );
        first = last;
    }
    Ok(commits)
}
