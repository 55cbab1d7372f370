//! What `baton bench` can be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

/// What the server is put to. docs/PERFORMANCE.md says what each does.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkloadName {
    /// Endings reported of delegations that were recorded before.
    Update,
    /// Delegations recorded.
    Record,
    /// Delegations from request to visible reply, with scripted agents.
    Delegate,
    /// Empty polls of the activity feed.
    Poll,
    /// Empty looks into the inbox.
    Inbox,
    /// Endings reported while each caller waits at its inbox.
    Longpoll,
    /// Endings reported while listeners follow every workspace's events.
    Sockets,
    /// Of ten requests four delegate, three look into an inbox, one records, one reports, one lists.
    Mixed,
    /// Delegations that wait for agents which never answer.
    Waiting,
    /// Delegations that wait for agents which take one task at a time, and never finish it.
    Queued,
    /// Looks into inboxes that wait, streams and sockets, to which nothing comes; then an event for a part of them.
    Watchers,
    /// Twice as many delegations as the server can take.
    Overload,
    /// Nothing at all.
    Idle,
}

impl WorkloadName {
    /// As it is given.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// How the scripted agents answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum AgentKind {
    /// At once.
    Instant,
    /// After a time from between these, each alike.
    Uniform(Duration, Duration),
    /// After a time that one in a hundred undercuts the first of, and one in a hundred exceeds the second.
    LogNormal(Duration, Duration),
    /// With an error.
    Failing,
    /// Never.
    Silent,
}

impl std::str::FromStr for AgentKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, range) = text.split_once(':').unwrap_or((text, ""));
        let between = || {
            let (least, most) = range
                .split_once('-')
                .ok_or_else(|| format!("{range:?} is no range, such as 20ms-2s"))?;
            let (least, most) = (duration(least)?, duration(most)?);
            if least.is_zero() || least > most {
                return Err(format!("{range:?} does not go from less to more"));
            }
            Ok((least, most))
        };
        match word {
            "instant" => Ok(Self::Instant),
            "failing" => Ok(Self::Failing),
            "silent" => Ok(Self::Silent),
            "latency" => between().map(|(least, most)| Self::Uniform(least, most)),
            "lognormal" => between().map(|(least, most)| Self::LogNormal(least, most)),
            _ => Err(
                "must be instant, latency:20ms-2s, lognormal:20ms-2s, failing or silent".to_owned(),
            ),
        }
    }
}

/// By what replies are seen.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// The stream of events.
    Events,
    /// A waiting look into the inbox, which acknowledges what it gets.
    Inbox,
}

/// What to measure, and how.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// What to put the server to, one after the other, each on an empty database, or all on the one that `--history` fills.
    #[arg(value_enum, default_values = ["update", "record", "delegate", "poll"])]
    pub workloads: Vec<WorkloadName>,

    /// Drives this running server, with the token of `--admin-token`, instead of one of its own.
    #[arg(long, conflicts_with_all = ["server", "directory", "baseline", "history", "limit"])]
    pub url: Option<String>,

    /// The binary to serve; this one when absent.
    #[arg(long)]
    pub server: Option<PathBuf>,

    /// Where the temporary database is made; the system's directory for such when absent.
    #[arg(long)]
    pub directory: Option<PathBuf>,

    /// Connections, each with one request at a time.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub clients: u32,

    /// Requests a second, begun when they are due whatever became of earlier ones; without it each client sends its
    /// next request when the last is answered.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// How long each run takes.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,

    /// How many requests each run sends, instead of `--duration`.
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: Option<u32>,

    /// How long the same load goes on before the first run, unmeasured.
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,

    /// Runs of each workload.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,

    /// Calling workspaces, each with its own token, under one root.
    #[arg(long, default_value = "256", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub workspaces: u32,

    /// Workspaces that are delegated to, each with an agent of its own.
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub targets: u32,

    /// How the agents answer: instant, latency:20ms-2s, lognormal:20ms-2s, failing, silent.
    #[arg(long, default_value = "instant")]
    pub agent: AgentKind,

    /// By what replies are seen.
    #[arg(long, value_enum, default_value = "events")]
    pub reader: Reader,

    /// How many listeners `sockets` has, as many at each workspace; at least one.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sockets: u32,

    /// How many delegations wait in `waiting` and `queued`.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub waiting: u32,

    /// How many of each manner watch in `watchers`.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub watchers: u32,

    /// So many workspaces, each polling once in `--every`: sets `--workspaces`, `--clients` and `--rate`.
    #[arg(long, conflicts_with_all = ["workspaces", "clients", "rate"], value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub pollers: Option<u32>,

    /// How often each of `--pollers` polls.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub every: Duration,

    /// What the agents' dice begin with.
    #[arg(long, default_value = "1")]
    pub seed: u64,

    /// Finished delegations that the database holds before the start.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub history: u64,

    /// How many of them are one calling workspace's; the rest is spread over a thousand others.
    #[arg(long, default_value = "0", requires = "history")]
    pub history_in_one: u64,

    /// Drives a stand-in for the original beside the server, in turns, and shows the ratio.
    #[arg(long)]
    pub baseline: bool,

    /// Measures how fast the rows of endings can be written at all, with no server.
    #[arg(long)]
    pub limit: bool,

    /// Where every figure is written as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl BenchOptions {
    /// With what one option says of others.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        if let Some(pollers) = self.pollers {
            let every = self.every.as_millis().max(1);
            let rate = u128::from(pollers) * 1000 / every;
            self.workspaces = pollers;
            self.clients = pollers;
            self.rate = Some(u32::try_from(rate).unwrap_or(u32::MAX).max(1));
        }
        self
    }
}

/// Reads `500ms`, `10s`, `2m`, `6h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let number = digits.parse::<u64>().ok();
    let read = number.and_then(|number| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    });
    read.ok_or_else(|| format!("{text:?} is no duration, such as 500ms, 10s, 2m or 6h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("6h"), Ok(Duration::from_hours(6)));
        for bad in ["", "10", "s", "-1s", "1d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_agent_is_a_word_and_maybe_a_range() {
        let span = (Duration::from_millis(20), Duration::from_secs(2));
        assert_eq!("instant".parse(), Ok(AgentKind::Instant));
        assert_eq!(
            "latency:20ms-2s".parse(),
            Ok(AgentKind::Uniform(span.0, span.1))
        );
        assert_eq!(
            "lognormal:20ms-2s".parse(),
            Ok(AgentKind::LogNormal(span.0, span.1))
        );
        for bad in ["", "latency", "latency:2s-20ms", "lognormal:1-2", "slow"] {
            assert!(bad.parse::<AgentKind>().is_err(), "{bad:?}");
        }
    }
}
