//! What is counted of endings.

use std::sync::LazyLock;
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::totals::TOTALS;
use crate::domain::{Ending, ErrorClass};

/// To look a meter up costs more than to use it.
struct Endings {
    completed: Counter,
    failed: Vec<(ErrorClass, Counter)>,
    cancelled: Counter,
    lasted: Histogram,
}

static ENDINGS: LazyLock<Endings> = LazyLock::new(|| {
    let of_class = |class: &ErrorClass| {
        let labels = [("status", "failed"), ("class", class.as_str())];
        let counter = metrics::counter!("baton_delegations_ended_total", &labels);
        (*class, counter)
    };
    Endings {
        completed: metrics::counter!("baton_delegations_ended_total", "status" => "completed"),
        failed: ErrorClass::ALL.iter().map(of_class).collect(),
        cancelled: metrics::counter!("baton_delegations_ended_total", "status" => "cancelled"),
        lasted: metrics::histogram!("baton_delegation_seconds"),
    }
});

/// Counts a committed ending, and how long after its acceptance it came.
pub fn ended(ending: &Ending, lasted: Duration) {
    let counter = match ending {
        Ending::Completed { .. } => Some(&ENDINGS.completed),
        Ending::Cancelled { .. } => Some(&ENDINGS.cancelled),
        Ending::Failed { class, .. } => {
            let of_class = ENDINGS.failed.iter().find(|(other, _)| other == class);
            of_class.map(|(_, counter)| counter)
        }
    };
    if let Some(counter) = counter {
        counter.increment(1);
    }
    ENDINGS.lasted.record(lasted);
    TOTALS.ended(ending, lasted);
}
