//! The load itself: clients that send when the last answer is in, or when it is time, and what they saw.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::http::{Answer, Call, Connection};

/// The longest time that is told from longer ones: ten minutes, in microseconds.
const LONGEST: u64 = 600_000_000;

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// By each client, as soon as its last one is answered.
    Closed,
    /// This many a second, evenly. One that is due while every connection is busy waits, and its waiting counts.
    Open(u32),
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    For(Duration),
    Count(u64),
}

/// How a run is driven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) clients: u32,
    pub(super) pace: Pace,
    pub(super) extent: Extent,
}

/// A request with what the workload wants to know when it is answered.
pub(super) struct Task<T> {
    pub(super) call: Call,
    pub(super) tag: T,
}

/// Where requests come from, and where answers go.
pub(super) trait Source {
    type Tag;

    /// The next request; none when there is nothing left to ask.
    fn next(&self) -> anyhow::Result<Option<Task<Self::Tag>>>;

    /// What came of it. `begun` is when it was, or should have been, sent; no answer when the connection broke.
    fn answered(&self, tag: Self::Tag, begun: Instant, answer: Option<&Answer>);
}

/// Latencies, in microseconds.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Milliseconds below which this share of them lie.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(share)).as_secs_f64() * 1000.0
    }
}

/// What the clients saw.
pub(super) struct Tally {
    pub(super) took: Duration,
    /// Of the requests that succeeded.
    pub(super) latencies: Latencies,
    pub(super) succeeded: u64,
    /// 503 with `Retry-After`.
    pub(super) shed: u64,
    /// Any other status.
    pub(super) refused: u64,
    /// No answer.
    pub(super) broken: u64,
    /// What the first unexpected one said.
    pub(super) complaint: Option<String>,
}

impl Tally {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            took: Duration::ZERO,
            latencies: Latencies::new()?,
            succeeded: 0,
            shed: 0,
            refused: 0,
            broken: 0,
            complaint: None,
        })
    }

    fn note(&mut self, latency: Duration, answer: &anyhow::Result<Answer>) {
        match answer {
            Ok(answer) if answer.is_success() => {
                self.succeeded += 1;
                self.latencies.record(latency);
            }
            Ok(answer) if answer.status == 503 && answer.retry_after => self.shed += 1,
            Ok(answer) => {
                self.refused += 1;
                self.complaint.get_or_insert_with(|| {
                    let text = String::from_utf8_lossy(&answer.body);
                    format!("{}: {text}", answer.status)
                });
            }
            Err(error) => {
                self.broken += 1;
                self.complaint.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

/// Hands out when the next request is to begin.
struct Schedule {
    begun: Instant,
    pace: Pace,
    extent: Extent,
    handed_out: Cell<u64>,
}

impl Schedule {
    /// When the next one is due; none when there are no more.
    fn next(&self) -> Option<Instant> {
        let number = self.handed_out.get();
        let due = match self.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => {
                let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
                self.begun + Duration::from_nanos(u64::try_from(nanos).ok()?)
            }
        };
        let more = match self.extent {
            Extent::Count(count) => number < count,
            Extent::For(length) => due.saturating_duration_since(self.begun) < length,
        };
        self.handed_out.set(number + 1);
        more.then_some(due)
    }
}

/// Drives one run to its end.
pub(super) async fn drive<S: Source>(source: &S, load: Load) -> anyhow::Result<Tally> {
    let mut connections = Vec::new();
    for _ in 0..load.clients {
        let mut connection = Connection::to(load.address);
        connection.open().await?;
        connections.push(connection);
    }
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let schedule = Schedule {
        begun: Instant::now(),
        pace: load.pace,
        extent: load.extent,
        handed_out: Cell::new(0),
    };
    let clients = connections
        .into_iter()
        .map(|connection| client(source, &schedule, &tally, connection));
    // All of them are one task, whose turn would end after 128 reads and writes, while the rest are asked again and again.
    tokio::task::unconstrained(try_join_all(clients)).await?;
    let took = schedule.begun.elapsed();
    let mut tally = Rc::into_inner(tally)
        .context("every client has ended")?
        .into_inner();
    tally.took = took;
    Ok(tally)
}

async fn client<S: Source>(
    source: &S,
    schedule: &Schedule,
    tally: &RefCell<Tally>,
    mut connection: Connection,
) -> anyhow::Result<()> {
    while let Some(due) = schedule.next() {
        if matches!(schedule.pace, Pace::Open(_)) {
            tokio::time::sleep_until(due).await;
        }
        let Some(task) = source.next()? else { break };
        let answer = connection.send(&task.call).await;
        tally.borrow_mut().note(due.elapsed(), &answer);
        source.answered(task.tag, due, answer.as_ref().ok());
    }
    Ok(())
}
