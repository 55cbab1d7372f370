//! How many writes are committed within a time.

use std::time::Duration;

/// Fewest tickets, however slow the database is.
pub(super) const TICKETS_MIN: u64 = 64;
/// Most tickets while nothing tells how long many writes take: only small batches were committed.
pub(super) const TICKETS_UNTRIED: u64 = 1024;
/// Most tickets, however fast the database is.
pub(super) const TICKETS_MAX: u64 = 8192;
/// A batch below this size does not tell how long more would take: twice as much is reckoned to take no longer, and
/// [`TICKETS_MIN`] neither.
const TELLING_BATCH: u64 = 256;
/// Counts that are halved now and then are kept in parts of this size.
const PARTS: u64 = 1 << 16;
/// For how much busy time the writer's pace is remembered in full.
const MEMORY: Duration = Duration::from_millis(250);

/// How fast the writer commits, over the last busy moments.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// [`TELLING_BATCH`], unless all batches are smaller.
    telling: u64,
    /// Writes as they are reckoned.
    reckoned: u64,
    writes: u64,
    batches: u64,
    busy: Duration,
    /// Since when commits are under way that are not reckoned yet.
    began: Option<Duration>,
}

impl Pace {
    /// Of a writer that commits at most `batch` writes at once.
    pub(super) fn new(batch: usize) -> Self {
        let batch = u64::try_from(batch).unwrap_or(u64::MAX);
        Self {
            telling: batch.clamp(1, TELLING_BATCH),
            ..Self::default()
        }
    }

    /// A commit begins, alone or beside others.
    pub(super) const fn began(&mut self, now: Duration, beside: bool) {
        if !beside {
            self.began = Some(now);
        }
    }

    /// The commit of so many writes is through; others are still under way, or none.
    pub(super) fn committed(&mut self, writes: u64, now: Duration, others: bool) {
        let took = self.began.map(|began| now.saturating_sub(began));
        self.began = others.then_some(now);
        let (Some(took), true) = (took, writes > 0) else {
            return;
        };
        let hoped = writes.saturating_mul(2).max(TICKETS_MIN).min(self.telling);
        let reckoned = writes.max(hoped).saturating_mul(PARTS);
        self.reckoned = self.reckoned.saturating_add(reckoned);
        self.writes = self.writes.saturating_add(writes.saturating_mul(PARTS));
        self.batches = self.batches.saturating_add(PARTS);
        self.busy = self.busy.saturating_add(took);
        while self.busy > MEMORY.saturating_mul(2) {
            self.reckoned /= 2;
            self.writes /= 2;
            self.batches /= 2;
            self.busy /= 2;
        }
    }

    /// Busy time, that of the commit under way included once it takes longer than is usual.
    fn busy(&self, now: Duration) -> Duration {
        let under_way = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_sub(began));
        let batches = u32::try_from(self.batches / PARTS).unwrap_or(u32::MAX);
        let usual = self.busy.checked_div(batches).unwrap_or_default();
        self.busy.saturating_add(under_way.saturating_sub(usual))
    }

    /// How long one write takes, if anything is known.
    pub(super) fn each(&self, now: Duration) -> Option<Duration> {
        let nanos = self.busy(now).as_nanos().saturating_mul(PARTS.into());
        let each = nanos.checked_div(self.reckoned.into())?;
        Some(Duration::from_nanos(
            u64::try_from(each).unwrap_or(u64::MAX).max(1),
        ))
    }

    /// How many writes are committed within `wait`.
    pub(super) fn within(&self, wait: Duration, now: Duration) -> u64 {
        let Some(each) = self.each(now) else {
            return TICKETS_UNTRIED;
        };
        let tried = self.writes.saturating_mul(2) >= self.batches.saturating_mul(self.telling);
        let most = if tried { TICKETS_MAX } else { TICKETS_UNTRIED };
        let fit = wait.as_nanos().checked_div(each.as_nanos());
        let fit = fit.and_then(|fit| u64::try_from(fit).ok());
        fit.unwrap_or(most).clamp(TICKETS_MIN, most)
    }
}
