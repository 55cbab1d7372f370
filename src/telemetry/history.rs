//! The last hour of this process: what happened within each step, and how things stood at its end. A fixed number of samples,
//! and nothing for each delegation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::histogram::{Bucket, Counts};
use super::totals::{CLASSES, Snapshot, TOTALS};
use crate::clock;
use crate::domain::{ErrorClass, Status, Timestamp};

/// How many samples are kept: an hour of them, a step being ten seconds.
const KEPT: usize = 360;
/// How many statuses there are.
const STATUSES: usize = Status::ALL.len();

/// How things stand at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// In the order of [`Status::ALL`].
    live: [u32; STATUSES],
    /// Writes that were handed over and are not answered yet.
    pub write_queue: u32,
    /// Calls to targets that are under way.
    pub calls: u32,
}

impl Standing {
    /// So many are live in each status, so many writes wait for their commit, so many calls are in flight.
    #[must_use]
    pub fn new(live: &BTreeMap<Status, i64>, write_queue: u64, calls: usize) -> Self {
        let of = |status: &Status| live.get(status).copied().unwrap_or_default().max(0);
        Self {
            live: std::array::from_fn(|place| {
                Status::ALL.get(place).map_or(0, |status| small(of(status)))
            }),
            write_queue: small(write_queue),
            calls: small(calls),
        }
    }
}

/// Half of what was measured took no longer than the one, all but a hundredth no longer than the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quantiles {
    p50: Option<Bucket>,
    p99: Option<Bucket>,
}

impl Quantiles {
    fn since(before: &Counts, now: &Counts) -> Self {
        Self {
            p50: now.quantile_since(before, 50),
            p99: now.quantile_since(before, 99),
        }
    }

    /// The median; none when nothing was measured.
    #[must_use]
    pub fn p50(self) -> Option<Duration> {
        self.p50.map(Bucket::middle)
    }

    /// The 99th percentile; none when nothing was measured.
    #[must_use]
    pub fn p99(self) -> Option<Duration> {
        self.p99.map(Bucket::middle)
    }
}

/// What happened within a step, and how things stood at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Its end, in milliseconds since 1970; later than that of the one before.
    pub at: i64,
    /// Delegations whose beginning was committed.
    pub accepted: u32,
    /// Those that ended with an answer.
    pub completed: u32,
    /// Those that ended without one, in the order of [`ErrorClass::ALL`].
    failed: [u32; CLASSES],
    /// Those that were withdrawn.
    pub cancelled: u32,
    /// Requests refused for want of room.
    pub shed: u32,
    /// How things stood.
    pub standing: Standing,
    /// From the wish to begin a delegation to its commit.
    pub acceptance: Quantiles,
    /// Of one commit.
    pub commit: Quantiles,
    /// Of one call to a target.
    pub call: Quantiles,
    /// From acceptance to ending.
    pub lasting: Quantiles,
}

impl Sample {
    fn between(before: &Snapshot, now: &Snapshot, at: i64, standing: Standing) -> Self {
        let more = |before: u64, now: u64| small(now.saturating_sub(before));
        let mut failed = [0; CLASSES];
        for (count, (before, now)) in failed.iter_mut().zip(before.failed.iter().zip(&now.failed)) {
            *count = more(*before, *now);
        }
        Self {
            at,
            accepted: more(before.accepted, now.accepted),
            completed: more(before.completed, now.completed),
            failed,
            cancelled: more(before.cancelled, now.cancelled),
            shed: more(before.shed, now.shed),
            standing,
            acceptance: Quantiles::since(&before.acceptance, &now.acceptance),
            commit: Quantiles::since(&before.commit, &now.commit),
            call: Quantiles::since(&before.call, &now.call),
            lasting: Quantiles::since(&before.lasting, &now.lasting),
        }
    }

    /// How many ended without an answer, of all classes.
    #[must_use]
    pub fn failed(&self) -> u32 {
        self.failed
            .iter()
            .fold(0, |all, count| all.saturating_add(*count))
    }

    /// How many of each class.
    pub fn classes(&self) -> impl Iterator<Item = (ErrorClass, u32)> + use<> {
        ErrorClass::ALL.iter().copied().zip(self.failed)
    }

    /// How many were live.
    #[must_use]
    pub fn live(&self) -> u32 {
        self.statuses()
            .fold(0, |all, (_, count)| all.saturating_add(count))
    }

    /// How many were live in each status.
    pub fn statuses(&self) -> impl Iterator<Item = (Status, u32)> + use<> {
        let all = Status::ALL.iter().copied().zip(self.standing.live);
        all.filter(|(status, _)| !status.is_terminal())
    }
}

/// A count as samples keep it.
fn small(count: impl TryInto<u32>) -> u32 {
    count.try_into().unwrap_or(u32::MAX)
}

/// The samples of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History {
    began: Timestamp,
    step: Duration,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    samples: VecDeque<Sample>,
    /// The totals at the end of the last.
    before: Snapshot,
}

impl History {
    /// Begins now; what is counted from now on is in its samples.
    #[must_use]
    pub fn begin(step: Duration) -> Self {
        let kept = Kept {
            samples: VecDeque::with_capacity(KEPT),
            before: TOTALS.now(),
        };
        Self {
            began: clock::now(),
            step,
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// When it began.
    #[must_use]
    pub const fn began(&self) -> Timestamp {
        self.began
    }

    /// How long after another samples are taken.
    #[must_use]
    pub const fn step(&self) -> Duration {
        self.step
    }

    /// Takes a sample after each step, for ever. `tick` tells that it is alive.
    pub async fn keep(self, standing: impl Fn() -> Standing, tick: impl Fn()) {
        let mut steps = tokio::time::interval(self.step);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is over at once.
        steps.tick().await;
        loop {
            tick();
            steps.tick().await;
            self.kept().take(TOTALS.now(), clock::now(), standing());
        }
    }

    /// The samples that are later than this, in milliseconds since 1970; all when nothing is said.
    #[must_use]
    pub fn after(&self, after: Option<i64>) -> Vec<Sample> {
        let kept = self.kept();
        let later = kept
            .samples
            .iter()
            .filter(|sample| after.is_none_or(|after| sample.at > after));
        later.copied().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is under this lock is whole at any moment.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, totals: Snapshot, now: Timestamp, standing: Standing) {
        let last = self.samples.back().map_or(i64::MIN, |sample| sample.at);
        // The clock may have been set back; whoever asks for what came after the last must find this one.
        let at = (now.0 / 1000).max(last.saturating_add(1));
        let sample = Sample::between(&self.before, &totals, at, standing);
        self.before = totals;
        if self.samples.len() >= KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Ending;
    use crate::telemetry::totals::Totals;

    fn empty() -> Kept {
        Kept {
            samples: VecDeque::new(),
            before: Totals::new().now(),
        }
    }

    fn nothing() -> Standing {
        Standing::new(&BTreeMap::new(), 0, 0)
    }

    fn failed(class: ErrorClass) -> Ending {
        let detail = "why".into();
        Ending::Failed { class, detail }
    }

    #[test]
    fn a_sample_tells_what_happened_since_the_one_before() {
        let (totals, mut kept) = (Totals::new(), empty());
        let text = "42".into();
        totals.accepted();
        totals.ended(&Ending::Completed { text }, Duration::from_millis(8));
        kept.take(totals.now(), Timestamp(1_000_000), nothing());
        totals.accepted();
        totals.accepted();
        totals.shed();
        for class in [
            ErrorClass::Refused,
            ErrorClass::Deadline,
            ErrorClass::Refused,
        ] {
            totals.ended(&failed(class), Duration::from_secs(3));
        }
        let live = BTreeMap::from([
            (Status::Queued, 5),
            (Status::Stuck, 1),
            (Status::Completed, 0),
        ]);
        kept.take(
            totals.now(),
            Timestamp(2_000_000),
            Standing::new(&live, 7, 9),
        );
        kept.take(totals.now(), Timestamp(3_000_000), nothing());
        let counts = |of: fn(&Sample) -> u32| kept.samples.iter().map(of).collect::<Vec<_>>();
        assert_eq!(counts(|sample| sample.accepted), [1, 2, 0]);
        assert_eq!(counts(|sample| sample.completed), [1, 0, 0]);
        assert_eq!(counts(Sample::failed), [0, 3, 0]);
        assert_eq!(counts(|sample| sample.shed), [0, 1, 0]);
        assert_eq!(counts(Sample::live), [0, 6, 0]);
        let classes: Vec<_> = kept.samples[1]
            .classes()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            classes,
            [(ErrorClass::Refused, 2), (ErrorClass::Deadline, 1)]
        );
        let standing = kept.samples[1].standing;
        assert_eq!((standing.write_queue, standing.calls), (7, 9));
        let lasting: Vec<_> = kept
            .samples
            .iter()
            .map(|sample| sample.lasting.p99())
            .collect();
        let near = |found: Option<Duration>, wanted: u64| {
            found.unwrap().as_millis().abs_diff(wanted.into()) * 32 <= wanted.into()
        };
        assert!(near(lasting[0], 8) && near(lasting[1], 3000), "{lasting:?}");
        assert_eq!((lasting[2], kept.samples[0].call.p50()), (None, None));
    }

    #[test]
    fn an_hour_is_kept_and_each_sample_is_later_than_the_one_before() {
        let history = History::begin(Duration::from_secs(10));
        for number in 0..1000 {
            // Once the clock is set back by a long way.
            let seconds = if number < 900 {
                10_000 + number * 10
            } else {
                number * 10
            };
            let now = Timestamp(seconds * 1_000_000);
            history.kept().take(TOTALS.now(), now, nothing());
        }
        let all = history.after(None);
        assert_eq!((all.len(), all.capacity().min(KEPT)), (KEPT, KEPT));
        assert!(all.windows(2).all(|pair| pair[0].at < pair[1].at));
        assert_eq!(history.after(Some(all[357].at)), all[358..]);
        assert_eq!(history.after(Some(all[359].at)), []);
        assert!(history.kept().samples.capacity() * size_of::<Sample>() < 100_000);
    }
}
