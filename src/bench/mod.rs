//! `baton bench`: a server under load, what it did and what that cost, and whether it kept its word.
//!
//! Server, database and load share one machine, so the load is made by one thread that does as little as it can.
//! docs/PERFORMANCE.md tells how to use it.

mod agents;
mod audit;
mod baseline;
mod costs;
mod database;
mod figures;
mod history;
mod http;
mod limit;
mod load;
mod report;
mod rig;
mod server;
mod sight;
mod special;
mod watchers;
mod workloads;

pub use baseline::serve as serve_baseline;

use std::rc::Rc;

use serde_json::json;
use tokio::time::Instant;

use crate::config::{AgentKind, BenchOptions, Config, WorkloadName};
use crate::limits;
use agents::Agents;
use audit::Stock;
use costs::Costs;
use database::Database;
use figures::Figures;
use load::Load;
use report::Report;
use rig::Rig;
use server::Kind;
use sight::Sight;
use workloads::Workload;

/// Measures what was asked for, and audits it.
///
/// # Errors
/// When something could not be measured, or an audit failed.
pub async fn run(options: BenchOptions, config: &Config) -> anyhow::Result<()> {
    let options = options.resolved();
    tokio::select! {
        done = measure_all(&options, config) => done,
        () = limits::stop_signal()? => anyhow::bail!("stopped before the end"),
    }
}

async fn measure_all(options: &BenchOptions, config: &Config) -> anyhow::Result<()> {
    let (mut reports, mut left) = (Vec::new(), Vec::new());
    for name in &options.workloads {
        reports.extend(measure(*name, options, config, &mut left).await?);
    }
    drop(left);
    if options.limit {
        reports.extend(limit::measure(options, config).await?);
    }
    if let Some(path) = &options.json {
        let found: Vec<_> = reports.iter().map(Report::json).collect();
        let whole = json!({
            "version": env!("CARGO_PKG_VERSION"), "database": database::version(&config.database_url)?,
            "machine": machine(),
            "settings": settings(options), "reports": found,
        });
        std::fs::write(path, format!("{whole:#}\n"))?;
    }
    let failed = reports.iter().filter(|report| !report.kept_word()).count();
    anyhow::ensure!(failed == 0, "{failed} audits failed");
    Ok(())
}

/// A server, the workload on it, and what was found so far.
struct Stand {
    rig: Rc<Rig>,
    workload: Workload,
    before: Option<Stock>,
    report: Report,
}

/// With a past, servers are left to the next workload.
async fn measure(
    name: WorkloadName,
    options: &BenchOptions,
    config: &Config,
    left: &mut Vec<Rig>,
) -> anyhow::Result<Vec<Report>> {
    if is_special(name) {
        // Nothing else shall run beside these.
        left.clear();
    }
    match name {
        WorkloadName::Waiting | WorkloadName::Queued => {
            return special::waiting(name, options, config).await;
        }
        WorkloadName::Watchers => return watchers::watchers(options, config).await,
        WorkloadName::Overload => return special::overload(options, config).await,
        WorkloadName::Idle => return special::idle(options, config).await,
        _ => {}
    }
    let mut stands = Vec::new();
    for kind in kinds(name, options) {
        let place = left.iter().position(|rig| rig.kind == kind);
        let rig = place.map(|place| left.swap_remove(place));
        stands.push(Stand::set_up(kind, name, options, config, rig).await?);
    }
    for stand in &mut stands {
        stand.warm_up(options).await?;
    }
    for _ in 0..options.runs {
        for stand in &mut stands {
            stand.run(options).await?;
        }
    }
    let mut reports = Vec::new();
    for stand in stands {
        let (report, rig) = stand.audited().await?;
        reports.push(report);
        // What agents leave unanswered would end in the middle of the next workload.
        let reusable = options.history > 0 && options.agent != AgentKind::Silent;
        left.extend(rig.filter(|_| reusable));
    }
    if let [server, yardstick] = reports.as_slice()
        && let Some(ratio) = report::ratio(server, yardstick)
    {
        println!("  {} times the baseline", format_args!("{ratio:.2}"));
    }
    Ok(reports)
}

/// Whether a workload looks at the process itself, and has a server of its own.
const fn is_special(name: WorkloadName) -> bool {
    matches!(
        name,
        WorkloadName::Waiting
            | WorkloadName::Queued
            | WorkloadName::Watchers
            | WorkloadName::Overload
            | WorkloadName::Idle
    )
}

/// The agents that a workload needs.
async fn agents(
    name: WorkloadName,
    options: &BenchOptions,
    sight: &Rc<Sight>,
) -> anyhow::Result<Agents> {
    let (kind, at_once) = match name {
        WorkloadName::Delegate | WorkloadName::Mixed | WorkloadName::Overload => {
            (options.agent, None)
        }
        WorkloadName::Waiting => (AgentKind::Silent, None),
        WorkloadName::Queued => (AgentKind::Silent, Some(1)),
        _ => return Ok(Agents::default()),
    };
    Agents::start(options.targets, kind, at_once, options.seed, sight).await
}

/// On which servers a workload is measured, in turns.
fn kinds(name: WorkloadName, options: &BenchOptions) -> Vec<Kind> {
    match name {
        WorkloadName::Update
        | WorkloadName::Record
        | WorkloadName::Delegate
        | WorkloadName::Poll
        | WorkloadName::Sockets
            if options.baseline =>
        {
            vec![Kind::Baton, Kind::Baseline]
        }
        // The original has no inbox to look into.
        _ => vec![Kind::Baton],
    }
}

impl Stand {
    async fn set_up(
        kind: Kind,
        name: WorkloadName,
        options: &BenchOptions,
        config: &Config,
        left: Option<Rig>,
    ) -> anyhow::Result<Self> {
        let sight = Rc::new(Sight::new()?);
        let agents = agents(name, options, &sight).await?;
        let rig = Rc::new(match left {
            Some(rig) => rig.again(&agents).await?,
            None => Rig::set_up(kind, options, config, &agents).await?,
        });
        let own = rig.server.own.as_ref();
        let before = own
            .map(|own| Stock::take(kind, &mut own.database.open()?))
            .transpose()?;
        let report = Report {
            workload: name.name(),
            server: kind.name(),
            database: own.map_or("unknown", |own| own.database.kind()),
            runs: Vec::new(),
            complaints: None,
            refusal: None,
        };
        let workload = Workload::begin(name, Rc::clone(&rig), &sight, options).await?;
        Ok(Self {
            rig,
            workload,
            before,
            report,
        })
    }

    /// The report, with what the audit finds, shown; and the server.
    async fn audited(self) -> anyhow::Result<(Report, Option<Rig>)> {
        let Self {
            rig, mut report, ..
        } = self;
        report.complaints = Some(audit::audit(&rig, self.before.as_ref()).await?);
        print!("{}", report.text());
        drop(self.workload);
        Ok((report, Rc::into_inner(rig)))
    }

    async fn warm_up(&self, options: &BenchOptions) -> anyhow::Result<()> {
        if let Some(extent) = workloads::warmup(options) {
            let load = workloads::load(&self.rig, options, extent);
            self.workload.prepare(load).await?;
            self.workload.run(load).await?;
            self.workload.settle().await?;
            self.workload.clear().await?;
        }
        Ok(())
    }

    async fn run(&mut self, options: &BenchOptions) -> anyhow::Result<()> {
        let load = workloads::load(&self.rig, options, workloads::extent(options));
        self.run_with(load).await
    }

    /// One run, measured.
    async fn run_with(&mut self, load: Load) -> anyhow::Result<()> {
        self.workload.prepare(load).await?;
        let before = Costs::read(&self.rig.server).await?;
        let begun = Instant::now();
        let tally = self.workload.run(load).await?;
        let seen = self.workload.settle().await?;
        let seconds = begun.elapsed().as_secs_f64();
        let costs = Costs::read(&self.rig.server).await?.since(&before);
        let mut figures = Figures::default();
        figures.tally(&tally);
        if let Some(seen) = seen {
            let last = seen.last.unwrap_or(begun);
            figures.seen(&seen, (last - begun).as_secs_f64());
        }
        figures.costs(&costs, seconds, tally.succeeded);
        if let Some(own) = &self.rig.server.own {
            let resident = costs::status(own.process(), "VmRSS");
            figures.add("resident_mib", resident.map(|kib| kib / 1024.0));
            figures.add("threads", costs::status(own.process(), "Threads"));
        }
        self.report.runs.push(figures);
        self.report.refusal = self.report.refusal.take().or(tally.complaint);
        self.workload.clear().await
    }
}

/// What the figures were taken on.
fn machine() -> serde_json::Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    json!({
        "processor": model.map(|(_, model)| model),
        "cores": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load_average": read("/proc/loadavg").split(' ').next(),
    })
}

fn settings(options: &BenchOptions) -> serde_json::Value {
    json!({
        "clients": options.clients, "rate": options.rate, "duration_s": options.duration.as_secs_f64(),
        "count": options.count, "warmup_s": options.warmup.as_secs_f64(), "runs": options.runs,
        "workspaces": options.workspaces, "targets": options.targets,
        "agent": format!("{:?}", options.agent), "reader": format!("{:?}", options.reader), "seed": options.seed,
        "sockets": options.sockets, "waiting": options.waiting, "watchers": options.watchers, "pollers": options.pollers,
        "every_s": options.every.as_secs_f64(), "history": options.history,
        "history_in_one": options.history_in_one, "server": options.server,
    })
}
