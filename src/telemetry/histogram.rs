//! Times in buckets that are at most a sixteenth wide: exact enough for quantiles, small, and counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each doubling of the time is cut into two to the power of this many buckets.
const BITS: u32 = 4;
/// How many those are, and how many buckets of one microsecond there are at the beginning.
const PARTS: usize = 1 << BITS;
/// Longer times, some 50 days and more, count as this long: the longest deadline is 30 days.
const LONGEST_MICROS: u64 = (1 << 42) - 1;
/// The buckets up to that.
const BUCKETS: usize = 39 * PARTS;

/// Where a time is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket(u16);

impl Bucket {
    fn of(time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros())
            .map_or(LONGEST_MICROS, |micros| micros.min(LONGEST_MICROS));
        // Of a number its length and the bits behind the first.
        let shift = micros.max(1).ilog2().saturating_sub(BITS);
        let within = usize::try_from(micros >> shift).unwrap_or_default();
        let doublings = usize::try_from(shift).unwrap_or_default();
        Self(
            u16::try_from(doublings.saturating_mul(PARTS).saturating_add(within))
                .unwrap_or_default(),
        )
    }

    /// The time in the middle of what is counted there.
    #[must_use]
    pub fn middle(self) -> Duration {
        let (doublings, within) = (usize::from(self.0) / PARTS, usize::from(self.0) % PARTS);
        let shift = u32::try_from(doublings.saturating_sub(1)).unwrap_or_default();
        let first = if doublings == 0 {
            within
        } else {
            within.saturating_add(PARTS)
        };
        let low = u64::try_from(first).unwrap_or_default() << shift;
        Duration::from_micros(low.saturating_add((1_u64 << shift) / 2))
    }
}

/// How often which time was measured.
#[derive(Debug)]
pub struct Histogram([AtomicU64; BUCKETS]);

impl Histogram {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// Counts a time.
    pub fn record(&self, time: Duration) {
        if let Some(bucket) = self.0.get(usize::from(Bucket::of(time).0)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let counts = self.0.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        Counts(counts.collect())
    }
}

/// What a histogram had counted at some instant, in each bucket.
#[derive(Clone, Debug)]
pub(super) struct Counts(Box<[u64]>);

impl Counts {
    /// The time that so many per cent of those measured since `before` do not exceed; none when none was.
    pub(super) fn quantile_since(&self, before: &Self, per_cent: u64) -> Option<Bucket> {
        let measured = || {
            self.0
                .iter()
                .zip(&before.0)
                .map(|(now, before)| now.saturating_sub(*before))
        };
        let all: u64 = measured().sum();
        let wanted = all.saturating_mul(per_cent).div_ceil(100).max(1);
        let mut passed = 0_u64;
        let reached = measured().position(|count| {
            passed = passed.saturating_add(count);
            passed >= wanted
        });
        reached
            .and_then(|index| u16::try_from(index).ok())
            .map(Bucket)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_time_has_the_last_bucket() {
        for long in [Duration::from_micros(LONGEST_MICROS), Duration::MAX] {
            assert_eq!(usize::from(Bucket::of(long).0), BUCKETS - 1);
        }
        assert_eq!(Bucket::of(Duration::ZERO), Bucket(0));
    }

    #[test]
    fn quantiles_are_those_of_one_step() {
        let histogram = Histogram::new();
        let nothing = histogram.counts();
        assert_eq!(nothing.quantile_since(&nothing, 99), None);
        for _ in 0..100 {
            histogram.record(Duration::from_mins(1));
        }
        let before = histogram.counts();
        for micros in 0..100 {
            histogram.record(Duration::from_micros(if micros < 98 { 3 } else { 11 }));
        }
        let now = histogram.counts();
        let micros = |per_cent| {
            let found = now.quantile_since(&before, per_cent).unwrap();
            found.middle().as_micros()
        };
        assert_eq!(
            [micros(50), micros(98), micros(99), micros(100)],
            [3, 3, 11, 11]
        );
        assert_eq!(now.quantile_since(&now, 50), None);
    }

    proptest! {
        #[test]
        fn a_time_is_found_again_as_exactly_as_promised(micros in 0..=LONGEST_MICROS) {
            let middle = Bucket::of(Duration::from_micros(micros)).middle();
            let off = u64::try_from(middle.as_micros()).unwrap().abs_diff(micros);
            prop_assert!(off <= micros / 32, "{micros} µs is {middle:?}");
            prop_assert_eq!(Bucket::of(middle), Bucket::of(Duration::from_micros(micros)));
        }

        #[test]
        fn longer_times_never_have_earlier_buckets(one in 0..=LONGEST_MICROS, other in 0..=LONGEST_MICROS) {
            let bucket = |micros| Bucket::of(Duration::from_micros(micros)).0;
            prop_assert!(one > other || bucket(one) <= bucket(other));
        }
    }
}
