//! When each background loop last ran, for `GET /admin/liveness`.

use std::sync::Arc;

use dashmap::DashMap;

use crate::clock;
use crate::domain::Timestamp;

/// The pulse of the background loops. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    ticks: Arc<DashMap<&'static str, Timestamp>>,
}

impl Liveness {
    /// Says that this loop ran just now.
    pub fn tick(&self, subsystem: &'static str) {
        self.ticks.insert(subsystem, clock::now());
    }

    /// Each loop that ever ran, with its last time.
    #[must_use]
    pub fn ticks(&self) -> Vec<(&'static str, Timestamp)> {
        let entries = self.ticks.iter();
        entries
            .map(|entry| (*entry.key(), *entry.value()))
            .collect()
    }
}
