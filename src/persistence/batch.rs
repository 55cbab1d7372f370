//! When a batch is closed: pure, so that it can be tested without a clock.

use std::time::Duration;

/// The limits of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimits {
    /// Most writes in one commit.
    pub size: usize,
    /// How long the first write of a batch waits for company. Zero commits at once whatever has come: what comes
    /// while a commit runs forms the next batch.
    pub linger: Duration,
}

/// Why a batch was closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlushReason {
    /// It is full.
    Full,
    /// It has waited long enough.
    Lingered,
    /// Everything must go.
    Draining,
    /// Much waits, and a second connection is free.
    Beside,
}

impl FlushReason {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Lingered => "lingered",
            Self::Draining => "draining",
            Self::Beside => "beside",
        }
    }
}

impl BatchLimits {
    /// Whether to commit now what waits, given how long the first of it has waited.
    #[must_use]
    pub fn flush(&self, waiting: usize, waited: Duration, draining: bool) -> Option<FlushReason> {
        if waiting == 0 {
            None
        } else if waiting >= self.size {
            Some(FlushReason::Full)
        } else if draining {
            Some(FlushReason::Draining)
        } else {
            (waited >= self.linger).then_some(FlushReason::Lingered)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_closes_when_full_or_old_or_drained_and_never_empty() {
        let limits = BatchLimits {
            size: 4,
            linger: Duration::from_millis(2),
        };
        let young = Duration::from_millis(1);
        let old = Duration::from_millis(2);
        assert_eq!(limits.flush(0, old, true), None);
        assert_eq!(limits.flush(3, young, false), None);
        assert_eq!(limits.flush(3, old, false), Some(FlushReason::Lingered));
        assert_eq!(limits.flush(4, young, false), Some(FlushReason::Full));
        assert_eq!(limits.flush(9, old, true), Some(FlushReason::Full));
        assert_eq!(limits.flush(1, young, true), Some(FlushReason::Draining));
        assert_eq!(
            BatchLimits {
                linger: Duration::ZERO,
                ..limits
            }
            .flush(1, Duration::ZERO, false),
            Some(FlushReason::Lingered)
        );
    }
}
