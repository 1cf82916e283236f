//! [`Locked`]: a mutex whose holder makes driver calls.
#![forbid(unsafe_code)]

use cumem_driver::deferral::Deferral;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A locked mutex, under which no user code runs. The simulated device would otherwise run closures of kernels in the
/// driver calls that the holder makes, and a closure that needs the same mutex would wait for itself. Events of
/// `tracing` wait until the mutex is released, if they are emitted by [`after_locks`](cumem_driver::deferral::after_locks).
#[derive(Debug)]
pub(crate) struct Locked<'a, T> {
    // In this order: deferred events come after the release of the mutex.
    value: MutexGuard<'a, T>,
    _deferral: Deferral,
}

impl<'a, T> Locked<'a, T> {
    pub(crate) fn new(mutex: &'a Mutex<T>) -> Self {
        let deferral = Deferral::begin();
        Self { value: mutex.lock().unwrap_or_else(PoisonError::into_inner), _deferral: deferral }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumem_driver::deferral::after_locks;

    static NUMBER: Mutex<u32> = Mutex::new(0);

    #[test]
    fn events_see_the_mutex_released() {
        let mut number = Locked::new(&NUMBER);
        after_locks(|| assert_eq!(NUMBER.try_lock().map(|number| *number).ok(), Some(1)));
        *number += 1;
    }
}
