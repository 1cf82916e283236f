//! The synchronization primitives of the pool. Loom replaces them in this one place and runs all interleavings
//! (`pool/interleavings.rs`).

#[cfg(not(all(loom, test)))]
pub(crate) use crate::lock::{BiasedLock, Guard};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU64},
};

#[cfg(all(loom, test))]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};
#[cfg(all(loom, test))]
pub(crate) use model::{BiasedLock, Guard, OnceLock};

/// Primitives that loom does not have.
#[cfg(all(loom, test))]
mod model {
    use super::{AtomicBool, Mutex, MutexGuard};
    use std::sync::atomic::Ordering::{Acquire, Release};

    /// A lock that blocks. A spinning thread would never end in a model that may always let another thread run first.
    #[derive(Debug)]
    pub(crate) struct BiasedLock<T>(Mutex<T>);

    pub(crate) type Guard<'a, T> = MutexGuard<'a, T>;

    impl<T> BiasedLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock().unwrap()
        }
    }

    /// Initialized by one thread at a time. A thread that sees the value also sees everything written before it was
    /// made.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        made: AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { made: AtomicBool::new(false), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.made.load(Acquire).then(|| self.value.get()).flatten()
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            let value = self.value.get_or_init(make);
            self.made.store(true, Release);
            value
        }
    }
}
