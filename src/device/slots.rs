//! [`Slots`]: values that services above keep for a machine or a device, at most one of each type.
#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::sync::OnceLock;

/// At most one value of each type. A service asks for its value by type, so the owner of the slots names no service.
/// Looking a value up takes no lock. Values are dropped with the slots.
#[derive(Default)]
pub(crate) struct Slots(OnceLock<Box<Slot>>);

struct Slot {
    value: Box<dyn Any + Send + Sync>,
    next: Slots,
}

impl Slots {
    /// Returns the value of type `T`, which `make` creates at the first call. `make` must not ask these slots for
    /// another value.
    #[inline]
    pub(crate) fn get<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> &T {
        let mut slots = self;
        while let Some(slot) = slots.0.get() {
            if let Some(value) = slot.value.downcast_ref() {
                return value;
            }
            slots = &slot.next;
        }
        slots.create(make)
    }

    /// Appends a value at the end of the chain, unless another thread has created one of this type in the meantime.
    #[cold]
    fn create<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> &T {
        let (mut slots, mut make) = (self, Some(make));
        loop {
            let slot = slots.0.get_or_init(|| {
                let make = make.take().expect("the loop ends at the slot that is created");
                Box::new(Slot { value: Box::new(make()), next: Self::default() })
            });
            if let Some(value) = slot.value.downcast_ref() {
                return value;
            }
            slots = &slot.next;
        }
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::thread;

    #[test]
    fn there_is_one_value_of_each_type() {
        let slots = Slots::default();
        assert_eq!((slots.get(|| 7_u32), slots.get(|| "seven"), slots.get(|| 8_u32)), (&7, &"seven", &7));
    }

    #[test]
    fn threads_that_race_see_one_value() {
        let (slots, made) = (Slots::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for n in 0..8 {
                let (slots, made) = (&slots, &made);
                scope.spawn(move || {
                    slots.get(|| (n % 2 == 0).then_some(n));
                    slots.get(|| made.fetch_add(1, Relaxed));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }
}
