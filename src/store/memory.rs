//! What was read lately, until it changes. Nothing that was read before a change is remembered after it.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::sync::Cache;

/// Values by key, at most so many; then those go that were not asked for again.
#[derive(Debug)]
pub(super) struct Memory<K, V>(Cache<K, Arc<Slot<V>>>);

/// Where something is to be kept. Taken before it is read: whoever forgets the key in the meantime takes the slot away,
/// and what is put there reaches nobody any more.
#[derive(Debug, Default)]
pub(super) struct Slot<V>(Mutex<V>);

impl<V> Slot<V> {
    pub(super) fn hold(&self) -> MutexGuard<'_, V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, V: Default + Clone> Memory<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self(Cache::new(limit))
    }

    /// What is remembered.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).map(|slot| slot.hold().clone())
    }

    /// Where to put what is read from now on.
    pub(super) fn slot(&self, key: &K) -> Arc<Slot<V>> {
        self.0.get(key).unwrap_or_else(|| {
            let slot = Arc::new(Slot::default());
            self.0.insert(key.clone(), Arc::clone(&slot));
            slot
        })
    }

    pub(super) fn forget(&self, key: &K) {
        self.0.remove(key);
    }

    pub(super) fn forget_all(&self) {
        self.0.clear();
    }

    /// Forgets what is not to be kept.
    pub(super) fn retain(&self, keeps: impl Fn(&V) -> bool) {
        self.0.retain(|_, slot| keeps(&slot.hold()));
    }

    pub(super) fn values(&self) -> impl Iterator<Item = (K, V)> {
        let slots = self.0.iter();
        slots.map(|(key, slot)| (key, slot.hold().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(slot: &Slot<u32>, value: u32) {
        *slot.hold() = value;
    }

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let forgetting: [fn(&Memory<u8, u32>); 3] = [
            |memory| memory.forget(&1),
            Memory::forget_all,
            |memory| memory.retain(|_| false),
        ];
        for forget in forgetting {
            let memory = Memory::new(10);
            // The read begins, the change is committed and told, the read ends.
            let before = memory.slot(&1);
            forget(&memory);
            put(&before, 1);
            assert_eq!(memory.get(&1), None);
            // A read that began after it.
            let after = memory.slot(&1);
            put(&after, 2);
            put(&before, 1);
            assert_eq!(memory.get(&1), Some(2));
            // Two at once, between two changes, share what they find.
            put(&memory.slot(&1), 3);
            assert_eq!(*after.hold(), 3);
        }
    }

    #[test]
    fn the_limit_holds_and_what_is_asked_for_again_stays() {
        let memory: Memory<u32, u32> = Memory::new(1000);
        let fill = |key: u32| put(&memory.slot(&key), key);
        (0..10).for_each(fill);
        for key in 10..10_000 {
            fill(key);
            assert_eq!(memory.get(&(key % 10)), Some(key % 10));
        }
        assert!(memory.values().count() <= 1000);
    }
}
