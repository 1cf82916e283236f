//! [`Registry`] and [`Recent`]: one shared object for each driver handle, found again at each call that names the handle.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The objects of all handles, by the device's ordinal and the handle. The registry itself keeps no object alive.
#[derive(Debug)]
pub(super) struct Registry<T>(Mutex<Objects<T>>);

#[derive(Debug)]
struct Objects<T> {
    by_handle: HashMap<(u32, u64), Weak<T>>,
    /// At this number of entries, the entries whose object is gone are removed.
    most: usize,
}

impl<T> Registry<T> {
    /// The number of entries below which none is removed.
    const FEW: usize = 64;

    pub(super) fn new() -> Self {
        Self(Mutex::new(Objects { by_handle: HashMap::new(), most: Self::FEW }))
    }

    /// Returns the object of a handle, and creates it if there is none that satisfies `is_same`.
    pub(super) fn get(
        &self,
        ordinal: u32,
        handle: u64,
        is_same: impl FnOnce(&T) -> bool,
        create: impl FnOnce() -> Arc<T>,
    ) -> Arc<T> {
        let mut objects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = objects.by_handle.get(&(ordinal, handle)).and_then(Weak::upgrade);
        if known.as_deref().is_some_and(is_same)
            && let Some(object) = known
        {
            return object;
        }
        if objects.by_handle.len() >= objects.most {
            objects.by_handle.retain(|_, object| object.strong_count() > 0);
            objects.most = (objects.by_handle.len() * 2).max(Self::FEW);
        }
        let object = create();
        objects.by_handle.insert((ordinal, handle), Arc::downgrade(&object));
        object
    }
}

/// The objects that one thread used last. A lookup takes no lock, and reads nothing that other threads write often.
#[derive(Debug)]
pub(super) struct Recent<T>([[Entry<T>; 2]; 1 << BITS]);

/// A handle and its object.
type Entry<T> = Option<(u64, Weak<T>)>;

/// The logarithm of the number of sets. A handle has two places, so that two handles of one set do not displace each
/// other at each call.
const BITS: u32 = 4;

impl<T> Recent<T> {
    pub(super) const fn new() -> Self {
        Self([const { [const { None }; 2] }; 1 << BITS])
    }

    /// Returns the object of `handle` if the thread used it lately, the object still exists, and it satisfies `is`.
    #[inline]
    pub(super) fn find(&self, handle: u64, is: impl FnOnce(&T) -> bool) -> Option<Arc<T>> {
        let mut entries = self.0[set(handle)].iter().flatten();
        let (_, object) = entries.find(|(known, _)| *known == handle)?;
        object.upgrade().filter(|object| is(object))
    }

    /// Stores the object of a handle, and drops the older one of two others.
    pub(super) fn remember(&mut self, handle: u64, object: &Arc<T>) {
        let [newer, older] = &mut self.0[set(handle)];
        if newer.as_ref().is_none_or(|(known, _)| *known != handle) {
            *older = newer.take();
        }
        *newer = Some((handle, Arc::downgrade(object)));
    }
}

/// Returns the set of a handle, from the upper bits of a product: handles are addresses, whose lower bits are equal.
#[inline]
fn set(handle: u64) -> usize {
    (handle.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_maps_to_one_object_while_the_object_is_kept() {
        let registry = Registry::new();
        let first = registry.get(0, 7, |_| true, || Arc::new("first"));
        assert_eq!(*registry.get(0, 7, |_| true, || Arc::new("second")), "first");
        assert_eq!(*registry.get(1, 7, |_| true, || Arc::new("of another device")), "of another device");
        assert_eq!(
            *registry.get(0, 7, |known| *known != "first", || Arc::new("of a reused handle")),
            "of a reused handle"
        );
        drop(first);
        assert_eq!(*registry.get(0, 7, |_| true, || Arc::new("third")), "third");
    }

    #[test]
    fn dropped_objects_are_removed_from_the_registry() {
        let registry = Registry::new();
        let kept = registry.get(0, u64::MAX, |_| true, || Arc::new(u64::MAX));
        (0..10_000).for_each(|handle| drop(registry.get(0, handle, |_| true, || Arc::new(handle))));
        assert!(registry.0.lock().unwrap().by_handle.len() <= Registry::<u64>::FEW);
        assert!(Arc::ptr_eq(&kept, &registry.get(0, u64::MAX, |_| true, || Arc::new(0))));
    }

    #[test]
    fn a_thread_finds_the_handles_that_it_used_recently() {
        let (mut recent, object) = (Recent::new(), Arc::new(1));
        assert!(recent.find(0, |_| true).is_none());
        recent.remember(0x2c2_2b10, &object);
        assert!(recent.find(0x2c2_2b10, |_| true).is_some() && recent.find(0x2c2_2b10, |_| false).is_none());
        // Every other handle is another one, also in the same set.
        assert!((0..1000).map(|n| 0x2c2_2b10 + 16 * (n + 1)).all(|handle| recent.find(handle, |_| true).is_none()));
        // A second object of the same handle replaces the first, and another handle of the set does not.
        let second = Arc::new(2);
        recent.remember(0x2c2_2b10, &second);
        let other = (1..).map(|n| 0x2c2_2b10 + n).find(|&other| set(other) == set(0x2c2_2b10)).unwrap();
        recent.remember(other, &object);
        let found = [0x2c2_2b10, other].map(|handle| recent.find(handle, |_| true).as_deref().copied());
        assert_eq!(found, [Some(2), Some(1)]);
        drop(second);
        assert!(recent.find(0x2c2_2b10, |_| true).is_none());
    }
}
