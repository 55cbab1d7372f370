//! Measurements that are more than a rate: many that wait, more than can be done, and nothing at all.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::Instant;

use super::costs;
use super::figures::Figures;
use super::http::{self, Call, Connection};
use super::load::{Extent, Load, Pace, Source as _};
use super::report::Report;
use super::rig::Rig;
use super::server::{Kind, Own, Server};
use super::workloads::{self, Workload};
use super::{Database, Stand};
use crate::config::{BenchOptions, Config, WorkloadName};

/// How long something may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is looked whether it is so far.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many others ask, each second, while many wait.
const OTHERS: u32 = 200;
/// A server is itself again when so many requests in a row
const RECOVERED: u32 = 20;
/// were each answered in this time.
const PROMPT: Duration = Duration::from_millis(100);
/// The most connections that an overload opens.
const CROWD: u32 = 10_000;

pub(super) fn own(rig: &Rig) -> anyhow::Result<&Own> {
    let own = rig.server.own.as_ref();
    own.context("this workload needs a server of its own, not --url")
}

pub(super) fn resident_kib(rig: &Rig) -> anyhow::Result<f64> {
    let resident = costs::status(own(rig)?.process(), "VmRSS");
    resident.context("the server's memory cannot be read")
}

/// Many delegations that wait, and what they cost; and how it is for others meanwhile.
pub(super) async fn waiting(
    name: WorkloadName,
    options: &BenchOptions,
    config: &Config,
) -> anyhow::Result<Vec<Report>> {
    let mut stand = Stand::set_up(Kind::Baton, name, options, config, None).await?;
    let rig = Rc::clone(&stand.rig);
    let before = resident_kib(&rig)?;
    let begun = Instant::now();
    let load = Load {
        pace: Pace::Closed,
        ..workloads::load(&rig, options, Extent::Count(options.waiting.into()))
    };
    let tally = stand.workload.run(load).await?;
    let taken = match name {
        // One of each target's tasks is with its agent.
        WorkloadName::Queued => options.waiting.saturating_sub(options.targets),
        _ => options.waiting,
    };
    let status = match name {
        WorkloadName::Queued => "queued",
        _ => "dispatched",
    };
    until(async || Ok(count(&rig, status).await? >= u64::from(taken))).await?;
    let mut figures = Figures::default();
    figures.add("waiting", f64::from(options.waiting));
    figures.add("seconds", begun.elapsed().as_secs_f64());
    figures.add("accepted_p99_ms", tally.latencies.quantile(0.99));
    let resident = resident_kib(&rig)?;
    figures.add("resident_mib", resident / 1024.0);
    figures.add(
        "kib_per_delegation",
        (resident - before) / f64::from(options.waiting),
    );
    figures.add("threads", costs::status(own(&rig)?.process(), "Threads"));
    figures.add("database_connections", connections(&rig)?);
    for other in [WorkloadName::Poll, WorkloadName::Update] {
        let (p99, refusal) = meanwhile(&rig, other, options).await?;
        figures.add(format!("{}_p99_ms", other.name()), p99);
        stand.report.refusal = stand.report.refusal.take().or(refusal);
    }
    stand.report.refusal = stand.report.refusal.take().or(tally.complaint);
    stand.report.runs.push(figures);
    Ok(vec![stand.audited().await?.0])
}

/// How others fare.
async fn meanwhile(
    rig: &Rc<Rig>,
    name: WorkloadName,
    options: &BenchOptions,
) -> anyhow::Result<(f64, Option<String>)> {
    let sight = Rc::new(super::Sight::new()?);
    let workload = Workload::begin(name, Rc::clone(rig), &sight, options).await?;
    let load = Load {
        pace: Pace::Open(options.rate.unwrap_or(OTHERS)),
        ..workloads::load(rig, options, workloads::extent(options))
    };
    workload.prepare(load).await?;
    let tally = workload.run(load).await?;
    workload.clear().await?;
    Ok((tally.latencies.quantile(0.99), tally.complaint))
}

/// How many delegations have this status.
async fn count(rig: &Rig, status: &str) -> anyhow::Result<u64> {
    let admin = http::bearer(&rig.server.admin_token)?;
    let call = Call::get("/admin/delegations/stats".to_owned(), &admin)?;
    let counts = Connection::to(rig.server.address).ask(&call).await?;
    let count = counts.get(status).and_then(Value::as_u64);
    count.context("a status of which there are some")
}

/// How many connections PostgreSQL holds for the server.
fn connections(rig: &Rig) -> anyhow::Result<Option<f64>> {
    let database = &own(rig)?.database;
    if matches!(database, Database::Sqlite { .. }) {
        return Ok(None);
    }
    let count = database.open()?.number(
        "SELECT count(*) AS number FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )?;
    Ok(Some(costs::float(count)))
}

async fn until(so: impl AsyncFn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !so().await? {
        anyhow::ensure!(begun.elapsed() < PATIENCE, "something did not come to pass");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Twice as many delegations as the server has shown that it can take, and how soon it is itself again.
pub(super) async fn overload(
    options: &BenchOptions,
    config: &Config,
) -> anyhow::Result<Vec<Report>> {
    let name = WorkloadName::Overload;
    let mut stand = Stand::set_up(Kind::Baton, name, options, config, None).await?;
    let rig = Rc::clone(&stand.rig);
    stand.warm_up(options).await?;
    stand.run(options).await?;
    let calm = stand.report.runs.pop().unwrap_or_default();
    let capacity = calm.get("replies_per_second");
    let capacity = capacity.context("agents that answer")?;
    let rate = whole(capacity * 2.0).max(1);
    let load = Load {
        pace: Pace::Open(rate),
        clients: options.clients.max(rate.saturating_mul(2).min(CROWD)),
        ..workloads::load(&rig, options, workloads::extent(options))
    };
    let most = Cell::new(0.0_f64);
    let overloaded = async {
        let tally = stand.workload.run(load).await?;
        let recovered = recovery(&stand).await?;
        anyhow::Ok((tally, recovered))
    };
    let (tally, recovered) = tokio::select! {
        done = overloaded => done?,
        never = sample(&rig, &most) => return never.map(|()| Vec::new()),
    };
    stand.workload.settle().await?;
    let mut figures = Figures::default();
    figures.add("capacity_per_second", capacity);
    figures.add("offered_per_second", f64::from(rate));
    figures.add("connections", f64::from(load.clients));
    figures.tally(&tally);
    figures.add("recovery_ms", recovered.as_secs_f64() * 1000.0);
    figures.add("resident_before_mib", calm.get("resident_mib"));
    figures.add("resident_most_mib", most.get() / 1024.0);
    figures.add("resident_after_mib", resident_kib(&rig)? / 1024.0);
    stand.report.runs.push(figures);
    stand.report.refusal = stand.report.refusal.take().or(tally.complaint);
    Ok(vec![stand.audited().await?.0])
}

/// The whole part of a rate.
fn whole(rate: f64) -> u32 {
    format!("{rate:.0}").parse().unwrap_or(u32::MAX)
}

/// Looks after the memory until nobody waits any more.
async fn sample(rig: &Rig, most: &Cell<f64>) -> anyhow::Result<()> {
    loop {
        most.set(most.get().max(resident_kib(rig)?));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How long it takes until requests are answered promptly again.
async fn recovery(stand: &Stand) -> anyhow::Result<Duration> {
    let Workload::Delegate(delegating) = &stand.workload else {
        anyhow::bail!("an overload consists of delegations");
    };
    let ended = Instant::now();
    let mut connection = Connection::to(stand.rig.server.address);
    let (mut in_a_row, mut since) = (0, ended);
    while in_a_row < RECOVERED {
        anyhow::ensure!(ended.elapsed() < PATIENCE, "the server did not recover");
        let asked = Instant::now();
        let task = delegating.next()?.context("another delegation")?;
        let answer = connection.send(&task.call).await.ok();
        delegating.answered(task.tag, asked, answer.as_ref());
        let prompt = asked.elapsed() < PROMPT && answer.is_some_and(|answer| answer.is_success());
        in_a_row = if prompt { in_a_row + 1 } else { 0 };
        if !prompt {
            since = Instant::now();
        }
    }
    Ok(since - ended)
}

/// What a server costs that nobody asks anything.
pub(super) async fn idle(options: &BenchOptions, config: &Config) -> anyhow::Result<Vec<Report>> {
    let mut runs = Vec::new();
    let mut database = "";
    for _ in 0..options.runs {
        let mut server = Server::start(Kind::Baton, options, config)?;
        // The first start makes the tables, too.
        let begun = Instant::now();
        server.while_stopped(|_database| Ok(()))?;
        let admin = http::bearer(&server.admin_token)?;
        let health = Call::get("/health".to_owned(), &admin)?;
        Connection::to(server.address).ask(&health).await?;
        let healthy = begun.elapsed();
        let own = server.own.as_ref();
        let own = own.context("this workload needs a server of its own, not --url")?;
        database = own.database.kind();
        tokio::time::sleep(options.warmup).await;
        let before = costs::precise_cpu_seconds(own.process());
        tokio::time::sleep(options.duration).await;
        let used = costs::precise_cpu_seconds(own.process());
        let used = used.zip(before).map(|(used, before)| used - before);
        let mut figures = Figures::default();
        figures.add("start_to_healthy_ms", healthy.as_secs_f64() * 1000.0);
        figures.add(
            "server_cpu_percent",
            used.map(|used| used * 100.0 / options.duration.as_secs_f64()),
        );
        let resident = costs::status(own.process(), "VmRSS");
        figures.add("resident_mib", resident.map(|kib| kib / 1024.0));
        figures.add("threads", costs::status(own.process(), "Threads"));
        runs.push(figures);
    }
    let report = Report {
        workload: WorkloadName::Idle.name(),
        server: Kind::Baton.name(),
        database,
        runs,
        complaints: None,
        refusal: None,
    };
    print!("{}", report.text());
    Ok(vec![report])
}
