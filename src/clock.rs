//! The one place that asks the machine for the time or for chance.

use chrono::Utc;

use crate::domain::{Moment, Timestamp};

/// Now, in the microseconds that the databases keep.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "everything else is given the time by this function"
)]
pub fn now() -> Timestamp {
    Timestamp(Utc::now().timestamp_micros())
}

/// Now, with a throw of the dice for jitter, for a process that has heard without a break since `hearing_since`.
#[must_use]
pub fn moment(hearing_since: Timestamp) -> Moment {
    Moment {
        now: now(),
        dice: rand::random(),
        hearing_since,
    }
}
