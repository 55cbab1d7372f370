//! Chance, from one number.

use std::time::Duration;

use baton::domain::Timestamp;

/// `SplitMix64`: the same numbers on every machine, for ever.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `0..limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// In `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        let numerator = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(numerator) / 4_294_967_296.0
    }

    /// Milliseconds, from `least` up to `most`.
    pub(crate) fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most.saturating_sub(least) + 1))
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let place = self.below(of.len().try_into().unwrap_or(u64::MAX));
        of[usize::try_from(place).unwrap_or(0)]
    }

    pub(crate) fn place(&mut self, of: usize) -> usize {
        usize::try_from(self.below(of.try_into().unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// An id for anything.
    pub(crate) fn id(&mut self) -> uuid::Uuid {
        uuid::Uuid::from_u64_pair(self.next(), self.next())
    }

    /// Some instant between two.
    pub(crate) fn instant(&mut self, from: Timestamp, to: Timestamp) -> Timestamp {
        let span = u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
        from.plus(self.millis(0, span))
    }
}
