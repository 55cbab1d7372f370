//! When to try again: exponential back-off with jitter, and `Retry-After` within bounds.

use std::time::Duration;

/// The arithmetic of waiting. All durations are positive.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RetryPolicy {
    /// The first wait.
    pub base: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// The part of a wait that is left to chance, in `0.0..=1.0`: a wait lies within `1 ± jitter/2` of its measure.
    pub jitter: f64,
    /// How long to wait for what Baton itself cannot hurry: an address, a poll.
    pub slow: Duration,
}

impl RetryPolicy {
    /// The wait after `failures` tries that failed (1 for the first), with `dice` in `0.0..1.0`.
    #[must_use]
    pub fn delay(&self, failures: u32, dice: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let measure = self.base.saturating_mul(1 << doublings).min(self.cap);
        self.spread(measure, dice)
    }

    /// The wait that a target asked for, kept between the base and ten times the cap so that it can neither make
    /// Baton hammer nor park a delegation for ever; without one, [`RetryPolicy::delay`].
    #[must_use]
    pub fn delay_after(&self, retry_after: Option<Duration>, failures: u32, dice: f64) -> Duration {
        match retry_after {
            Some(asked) => asked.clamp(self.base, self.cap.saturating_mul(10)),
            None => self.delay(failures, dice),
        }
    }

    /// The slow wait, with jitter.
    #[must_use]
    pub fn slow_delay(&self, dice: f64) -> Duration {
        self.spread(self.slow, dice)
    }

    fn spread(&self, measure: Duration, dice: f64) -> Duration {
        measure.mul_f64(1.0 + self.jitter * (dice.clamp(0.0, 1.0) - 0.5))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            cap: Duration::from_mins(1),
            jitter: 0.4,
            slow: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let policy = RetryPolicy::default();
        let waits: Vec<u64> = (1..=8)
            .map(|failures| policy.delay(failures, 0.5).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(policy.delay(u32::MAX, 0.5), policy.cap);
    }

    #[test]
    fn a_target_may_ask_for_patience_within_bounds() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.delay_after(Some(Duration::ZERO), 1, 0.0),
            policy.base
        );
        assert_eq!(
            policy.delay_after(Some(Duration::from_secs(30)), 9, 0.0),
            Duration::from_secs(30)
        );
        assert_eq!(
            policy.delay_after(Some(Duration::from_secs(1 << 40)), 1, 0.0),
            policy.cap * 10
        );
    }

    proptest! {
        #[test]
        fn every_wait_lies_within_the_jitter(failures in 1u32..100, dice in 0.0f64..1.0) {
            let policy = RetryPolicy::default();
            let measure = policy.delay(failures, 0.5).as_secs_f64();
            let wait = policy.delay(failures, dice).as_secs_f64();
            prop_assert!((wait / measure - 1.0).abs() <= policy.jitter / 2.0 + 1e-9);
        }
    }
}
