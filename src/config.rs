//! Configuration: environment first, the same names as flags. An illegal value stops the start.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

mod bench;
mod client;

pub use bench::{AgentKind, BenchOptions, Reader, WorkloadName};
pub use client::{
    Access, Acting, ClientCommand, DelegateOptions, SpeakCommand, TokenCommand, WorkspaceCommand,
};

/// Durable delegation between AI agents.
#[derive(Parser, Clone, Debug)]
#[command(name = "baton", version, about)]
pub struct Cli {
    /// What to do; serves when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How.
    #[command(flatten, next_help_heading = "Server")]
    pub config: Config,
}

/// What the binary can do.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// With a server of its own.
    #[command(flatten)]
    Server(ServerCommand),
    /// What is asked of a running server.
    #[command(flatten)]
    Client(ClientCommand),
}

/// What the binary can do with a server of its own.
#[derive(Subcommand, Clone, Debug)]
pub enum ServerCommand {
    /// Serve until told to stop.
    Serve,
    /// Serve on a temporary database where scripted agents delegate among each other: on a terminal until told to stop,
    /// else a few times, until every reply is in.
    Demo(DemoOptions),
    /// Put a server under load, and check its books afterwards: see docs/PERFORMANCE.md.
    Bench(Box<BenchOptions>),
    /// The yardstick of `bench --baseline`.
    #[command(hide = true)]
    BenchBaseline,
}

/// How long the demonstration goes on.
#[derive(Args, Clone, Copy, Debug)]
pub struct DemoOptions {
    /// Goes on until told to stop, as on a terminal.
    #[arg(long)]
    pub stay: bool,
    /// Ends once a few replies are in, as without a terminal.
    #[arg(long, conflicts_with = "stay")]
    pub once: bool,
}

/// How logs are written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// All settings, with their environment variables.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_parser = named::<IpAddr>("HOST", "an IP address"), global = true)]
    pub host: IpAddr,

    /// Port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value = "8080", value_parser = named::<u16>("PORT", "a port number, 0 to 65535"), global = true)]
    pub port: u16,

    /// `sqlite://PATH` or `postgres://…`.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://baton.db",
        hide_env_values = true,
        global = true
    )]
    pub database_url: String,

    /// Bearer of full rights. Minted at the first start when empty, and kept in a file of mode 0600.
    #[arg(
        long,
        env = "ADMIN_TOKEN",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true,
        global = true
    )]
    pub admin_token: String,

    /// Write replies into callers' inboxes: on for exactly `1`.
    #[arg(
        long = "delegation-result-inbox-push",
        env = "DELEGATION_RESULT_INBOX_PUSH",
        default_value = "",
        global = true
    )]
    pub inbox_push_flag: String,

    /// The key under which secrets are stored, 32 bytes in base64; with SQLite minted when absent, and kept in a file.
    #[arg(
        long,
        env = "BATON_SECRET_KEY",
        default_value = "",
        hide_env_values = true,
        hide_default_value = true,
        global = true
    )]
    pub secret_key: String,

    /// Where agents reach this service, for example `https://baton.example`; empty: they are not asked to push.
    #[arg(long, env = "BATON_PUBLIC_URL", default_value = "", value_parser = public_url, global = true)]
    pub public_url: String,

    /// After how long a receiver of events that fails is told no more, in seconds.
    #[arg(long, env = "BATON_PUSH_GIVE_UP_S", default_value = "86400", value_parser = between("BATON_PUSH_GIVE_UP_S", 1, MAX_DEADLINE_S), global = true)]
    pub push_give_up_s: u64,

    /// Requests a minute for each peer address; 0 is off.
    #[arg(long, env = "RATE_LIMIT", default_value = "600", value_parser = named::<u32>("RATE_LIMIT", "a number of requests a minute, 0 for no limit"), global = true)]
    pub rate_limit: u32,

    /// Browser origins that may call, separated by commas.
    #[arg(
        long,
        env = "CORS_ORIGINS",
        value_delimiter = ',',
        default_value = "http://localhost:3000,http://localhost:3001",
        global = true
    )]
    pub cors_origins: Vec<String>,

    /// CIDRs that may be called although private or loopback, separated by commas.
    #[arg(long, env = "BATON_TARGET_ALLOW", value_delimiter = ',', value_parser = named::<IpNet>("BATON_TARGET_ALLOW", "CIDRs such as 10.0.0.0/8, separated by commas"), global = true)]
    pub target_allow: Vec<IpNet>,

    /// Default deadline of a delegation, in seconds.
    #[arg(long, env = "DELEGATION_DEADLINE_S", default_value = "21600", value_parser = between("DELEGATION_DEADLINE_S", 1, MAX_DEADLINE_S), global = true)]
    pub delegation_deadline_s: u64,

    /// Silence before a delegation is shown as stuck, in seconds.
    #[arg(long, env = "DELEGATION_STUCK_THRESHOLD_S", default_value = "600", value_parser = between("DELEGATION_STUCK_THRESHOLD_S", 1, MAX_DEADLINE_S), global = true)]
    pub delegation_stuck_threshold_s: u64,

    /// How often the slow safety sweep looks for owed replies and for live delegations that nobody has in charge, in seconds.
    #[arg(long, env = "DELEGATION_SWEEPER_INTERVAL_S", default_value = "300", value_parser = between("DELEGATION_SWEEPER_INTERVAL_S", 1, 86_400), global = true)]
    pub delegation_sweeper_interval_s: u64,

    /// Longest request body, in bytes.
    #[arg(long, env = "BATON_MAX_BODY_BYTES", default_value = "16777216", value_parser = bytes("BATON_MAX_BODY_BYTES"), global = true)]
    pub max_body_bytes: usize,

    /// Most bytes of request bodies in flight, together.
    #[arg(long, env = "BATON_MAX_BODIES_BYTES", default_value = "268435456", value_parser = bytes("BATON_MAX_BODIES_BYTES"), global = true)]
    pub max_bodies_bytes: usize,

    /// How long a write may wait for its commit before requests are refused, in milliseconds.
    #[arg(long, env = "BATON_MAX_WAIT_MS", default_value = "250", value_parser = between("BATON_MAX_WAIT_MS", 10, 5000), global = true)]
    pub max_wait_ms: u64,

    /// Longest reply of a target, in bytes.
    #[arg(long, env = "BATON_MAX_REPLY_BYTES", default_value = "67108864", value_parser = bytes("BATON_MAX_REPLY_BYTES"), global = true)]
    pub max_reply_bytes: usize,

    /// Live delegations on this node.
    #[arg(long, env = "BATON_MAX_LIVE", default_value = "100000", value_parser = named::<usize>("BATON_MAX_LIVE", "a number of delegations"), global = true)]
    pub max_live: usize,

    /// Calls in flight to targets.
    #[arg(long, env = "BATON_MAX_OUTBOUND", default_value = "10000", value_parser = between("BATON_MAX_OUTBOUND", 1, 1_000_000), global = true)]
    pub max_outbound: u64,

    /// Longest time to connect to a target, in seconds.
    #[arg(long, env = "BATON_CONNECT_TIMEOUT_S", default_value = "10", value_parser = between("BATON_CONNECT_TIMEOUT_S", 1, 600), global = true)]
    pub connect_timeout_s: u64,

    /// Longest time until a target's first byte, in seconds; 0 leaves it to the deadline.
    #[arg(long, env = "BATON_FIRST_BYTE_TIMEOUT_S", default_value = "0", value_parser = between("BATON_FIRST_BYTE_TIMEOUT_S", 0, MAX_DEADLINE_S), global = true)]
    pub first_byte_timeout_s: u64,

    /// Longest silence within a target's reply, in seconds.
    #[arg(long, env = "A2A_IDLE_TIMEOUT_SECONDS", default_value = "300", value_parser = between("A2A_IDLE_TIMEOUT_SECONDS", 1, MAX_DEADLINE_S), global = true)]
    pub idle_timeout_s: u64,

    /// First wait before a target that could not be reached is tried again, in milliseconds.
    #[arg(long, env = "BATON_RETRY_BASE_MS", default_value = "1000", value_parser = between("BATON_RETRY_BASE_MS", 1, 3_600_000), global = true)]
    pub retry_base_ms: u64,

    /// How long a target that cannot be reached is tried, counted from the first failure, in seconds.
    #[arg(long, env = "BATON_RETRY_BUDGET_S", default_value = "3600", value_parser = between("BATON_RETRY_BUDGET_S", 1, MAX_DEADLINE_S), global = true)]
    pub retry_budget_s: u64,

    /// Most writes in one commit.
    #[arg(long, env = "BATON_BATCH_SIZE", default_value = "256", value_parser = between("BATON_BATCH_SIZE", 1, 10_000), global = true)]
    pub batch_size: u64,

    /// How long a commit waits for company, in microseconds.
    #[arg(long, env = "BATON_BATCH_LINGER_US", default_value = "0", value_parser = between("BATON_BATCH_LINGER_US", 0, 1_000_000), global = true)]
    pub batch_linger_us: u64,

    /// How long the other nodes wait for a sign of one before they take over from it, in milliseconds.
    #[arg(long, env = "BATON_LEASE_MS", default_value = "5000", value_parser = between("BATON_LEASE_MS", 500, 600_000), global = true)]
    pub lease_ms: u64,

    /// Connections for reads.
    #[arg(long, env = "BATON_READ_CONNECTIONS", default_value = "4", value_parser = between("BATON_READ_CONNECTIONS", 1, 100), global = true)]
    pub read_connections: u64,

    /// Age after which a feed's rows are forgotten, messages only once acknowledged, in days.
    #[arg(long, env = "ACTIVITY_RETENTION_DAYS", default_value = "7", value_parser = between("ACTIVITY_RETENTION_DAYS", 1, MAX_RETENTION_DAYS), global = true)]
    pub activity_retention_days: u64,

    /// Age after which a feed's rows are forgotten in any case, in days.
    #[arg(long, env = "ACTIVITY_HARD_RETENTION_DAYS", default_value = "30", value_parser = between("ACTIVITY_HARD_RETENTION_DAYS", 1, MAX_RETENTION_DAYS), global = true)]
    pub activity_hard_retention_days: u64,

    /// How often old rows are looked for, in hours.
    #[arg(long, env = "ACTIVITY_CLEANUP_INTERVAL_HOURS", default_value = "6", value_parser = between("ACTIVITY_CLEANUP_INTERVAL_HOURS", 1, 24 * 365), global = true)]
    pub activity_cleanup_interval_hours: u64,

    /// How often a sample of the history is taken that `GET /canvas/health` shows, in milliseconds; 360 are kept.
    #[arg(long, env = "BATON_HISTORY_STEP_MS", default_value = "10000", value_parser = between("BATON_HISTORY_STEP_MS", 10, 3_600_000), global = true)]
    pub history_step_ms: u64,

    /// How logs are written.
    #[arg(
        long,
        env = "BATON_LOG_FORMAT",
        value_enum,
        default_value = "text",
        global = true
    )]
    pub log_format: LogFormat,

    /// Which logs are written, for example `info,baton=debug`.
    #[arg(long, env = "BATON_LOG", default_value = "info", global = true)]
    pub log: String,

    /// Faults to inject, for tests: see `faults.rs`.
    #[arg(
        long,
        env = "BATON_FAULTS",
        default_value = "",
        hide = true,
        global = true
    )]
    pub faults: String,
}

/// The longest deadline that can be asked for: 30 days.
pub const MAX_DEADLINE_S: u64 = 30 * 86_400;

/// The longest that rows can be kept: a hundred years.
const MAX_RETENTION_DAYS: u64 = 36_500;

impl Config {
    /// Whether replies are written (rule 3: exactly `1`).
    #[must_use]
    pub fn inbox_push(&self) -> bool {
        self.inbox_push_flag == "1"
    }

    /// What no single value shows.
    ///
    /// # Errors
    /// When two values contradict each other; the text names both, and the remedy.
    pub fn check(&self) -> Result<(), String> {
        let (days, hard_days) = (
            self.activity_retention_days,
            self.activity_hard_retention_days,
        );
        if hard_days < days {
            return Err(format!(
                "ACTIVITY_HARD_RETENTION_DAYS is {hard_days}, but must be at least ACTIVITY_RETENTION_DAYS, which is {days}"
            ));
        }
        if self.max_bodies_bytes < self.max_body_bytes {
            return Err(format!(
                "BATON_MAX_BODIES_BYTES is {}, but must be at least BATON_MAX_BODY_BYTES, which is {}",
                self.max_bodies_bytes, self.max_body_bytes
            ));
        }
        Ok(())
    }

    /// The default deadline.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        Duration::from_secs(self.delegation_deadline_s)
    }
}

/// A parser whose complaint names the variable, the value and what is allowed.
fn named<T>(
    variable: &'static str,
    allowed: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + Clone + Send + Sync + 'static,
{
    move |text| {
        text.trim()
            .parse()
            .map_err(|_error: T::Err| format!("{variable} is {text:?}, but must be {allowed}"))
    }
}

fn public_url(text: &str) -> Result<String, String> {
    let is_http = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    match url::Url::parse(text.trim()) {
        _ if text.trim().is_empty() => Ok(String::new()),
        Ok(url) if is_http(&url) && url.query().is_none() && url.fragment().is_none() => {
            Ok(text.trim().to_owned())
        }
        _ => Err(format!(
            "BATON_PUBLIC_URL is {text:?}, but must be an http or https URL without a query"
        )),
    }
}

fn between(
    variable: &'static str,
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| match text.trim().parse::<u64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!(
            "{variable} is {text:?}, but must be a whole number from {least} to {most}"
        )),
    }
}

fn bytes(
    variable: &'static str,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.trim().parse::<usize>() {
        Ok(value) if value >= 1024 => Ok(value),
        _ => Err(format!(
            "{variable} is {text:?}, but must be a number of bytes, at least 1024"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        Cli::try_parse_from(std::iter::once(&"baton").chain(arguments))
            .map(|cli| cli.config)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_is_on_for_exactly_one() {
        for (value, on) in [
            ("1", true),
            ("", false),
            ("0", false),
            ("true", false),
            ("01", false),
            (" 1", false),
        ] {
            let config = parse(&["--delegation-result-inbox-push", value]).unwrap();
            assert_eq!(config.inbox_push(), on, "{value:?}");
        }
        assert!(!parse(&[]).unwrap().inbox_push());
    }

    #[test]
    fn an_illegal_value_is_named_with_its_variable_and_the_remedy() {
        for (flag, variable, value) in [
            ("--port", "PORT", "70000"),
            ("--rate-limit", "RATE_LIMIT", "-1"),
            ("--delegation-deadline-s", "DELEGATION_DEADLINE_S", "0"),
            ("--idle-timeout-s", "A2A_IDLE_TIMEOUT_SECONDS", "foo"),
            ("--lease-ms", "BATON_LEASE_MS", "499"),
            ("--public-url", "BATON_PUBLIC_URL", "baton.example"),
            ("--max-body-bytes", "BATON_MAX_BODY_BYTES", "12"),
            ("--target-allow", "BATON_TARGET_ALLOW", "10.0.0.0/40"),
        ] {
            let complaint = parse(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(
                complaint.contains(variable)
                    && complaint.contains(value)
                    && complaint.contains("must be"),
                "{complaint}"
            );
        }
    }

    #[test]
    fn values_that_contradict_each_other_are_both_named() {
        let config = parse(&["--activity-retention-days=31"]).unwrap();
        let complaint = config.check().unwrap_err();
        for part in [
            "ACTIVITY_RETENTION_DAYS",
            "31",
            "ACTIVITY_HARD_RETENTION_DAYS",
            "30",
        ] {
            assert!(complaint.contains(part), "{complaint}");
        }
        assert_eq!(
            parse(&["--activity-retention-days=30"]).unwrap().check(),
            Ok(())
        );
    }
}
