//! What a run costs, beside time: processor seconds, commits, bytes written. Whatever cannot be read is absent.

use std::fs;

use super::database::{Connection, Database};
use super::http::{self, Call};
use super::server::Server;

/// Linux counts processor time in hundredths of a second for whoever asks (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the counters stood at one instant, or what they grew by.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Costs {
    /// Processor seconds of the server.
    pub(super) server_cpu: Option<f64>,
    /// Of this process.
    pub(super) bench_cpu: Option<f64>,
    /// Of PostgreSQL's processes for this database, and of those that write for all.
    pub(super) database_cpu: Option<f64>,
    /// Commits, as the server counts them.
    pub(super) commits: Option<f64>,
    /// Transactions, reads too, as PostgreSQL counts them; each of its processes tells once a second.
    pub(super) transactions: Option<f64>,
    /// Bytes of PostgreSQL's log, of all its databases; on SQLite what the server wrote to disk.
    pub(super) written_bytes: Option<f64>,
}

impl Costs {
    pub(super) async fn read(server: &Server) -> anyhow::Result<Self> {
        let mut costs = Self {
            bench_cpu: cpu_seconds(std::process::id()),
            ..Self::default()
        };
        costs.commits = commits(server).await.ok();
        let Some(own) = &server.own else {
            return Ok(costs);
        };
        costs.server_cpu = cpu_seconds(own.process());
        match &own.database {
            Database::Sqlite { .. } => costs.written_bytes = written_bytes(own.process()),
            database @ Database::Postgres { .. } => costs.ask(&mut database.open()?)?,
        }
        Ok(costs)
    }

    fn ask(&mut self, database: &mut Connection) -> anyhow::Result<()> {
        let processes = database.processes(
            "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
             AND (datname = current_database() OR backend_type IN ('walwriter', 'checkpointer', 'background writer'))",
        )?;
        let seconds: Option<Vec<f64>> = processes.into_iter().map(cpu_seconds).collect();
        self.database_cpu = seconds.map(|seconds| seconds.iter().sum());
        let count = database.number(
            "SELECT xact_commit AS number FROM pg_stat_database WHERE datname = current_database()",
        );
        self.transactions = Some(float(count?));
        let bytes = database
            .number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS number");
        self.written_bytes = Some(float(bytes?));
        Ok(())
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        let grown =
            |now: Option<f64>, before: Option<f64>| Some((now? - before.unwrap_or(0.0)).max(0.0));
        Self {
            server_cpu: grown(self.server_cpu, before.server_cpu),
            bench_cpu: grown(self.bench_cpu, before.bench_cpu),
            database_cpu: grown(self.database_cpu, before.database_cpu),
            commits: grown(self.commits, before.commits),
            transactions: grown(self.transactions, before.transactions),
            written_bytes: grown(self.written_bytes, before.written_bytes),
        }
    }
}

/// A count as a number to divide.
pub(super) fn float(count: u64) -> f64 {
    std::time::Duration::from_secs(count).as_secs_f64()
}

async fn commits(server: &Server) -> anyhow::Result<f64> {
    let metrics = Call::get("/metrics".to_owned(), &http::bearer(&server.admin_token)?)?;
    let answer = http::Connection::to(server.address).send(&metrics).await?;
    let text = String::from_utf8_lossy(&answer.body);
    let lines = text.lines();
    let counts = lines.filter_map(|line| line.strip_prefix("baton_commit_seconds_count"));
    let counts = counts.filter_map(|count| count.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum())
}

/// Processor seconds that a process has used, in itself and for it.
pub(super) fn cpu_seconds(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// The same to the nanosecond, of the threads that there are now.
pub(super) fn precise_cpu_seconds(process: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let seconds = threads.filter_map(|thread| {
        let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        let nanos: u64 = times.split(' ').next()?.parse().ok()?;
        Some(std::time::Duration::from_nanos(nanos).as_secs_f64())
    });
    Some(seconds.sum())
}

fn written_bytes(process: u32) -> Option<f64> {
    let counters = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    let mut lines = counters.lines();
    let line = lines.find_map(|line| line.strip_prefix("write_bytes: "))?;
    line.parse().ok()
}

/// A figure of `/proc/…/status`: `VmRSS` in KiB, `Threads`.
pub(super) fn status(process: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
